/** A message while it is being said: pieces at absolute offsets in UTF-16 code units, applied any number of times. */
export class StreamingText {
  constructor() {
    this.text = "";
    /** A piece arrived that starts beyond what is here: the text must be read again from a snapshot. */
    this.hasHole = false;
  }

  /** @param {number} offset @param {string} piece @returns {boolean} whether the text grew */
  apply(offset, piece) {
    const length = this.text.length;
    if (offset > length) {
      this.hasHole = true;
      return false;
    }
    const fresh = piece.slice(length - offset);
    if (!fresh) return false;
    this.text += fresh;
    return true;
  }

  /** What a snapshot says it is; never takes back what is already here. @param {string} text */
  replace(text) {
    if (text.length >= this.text.length) {
      this.text = text;
      this.hasHole = false;
    }
  }
}
