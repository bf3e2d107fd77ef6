/** Events as the server would send them, for the tests of the fold. */
export const ANNA = { kind: "person", id: "usr_1", name: "Anna", role: null };
export const NORI = { kind: "agent", id: "nori", name: "Nori", role: "coder" };

export function event(seq, kind, body, sender = kind === "message" ? ANNA : NORI, id = `${kind}_${seq}`) {
  return { seq, epoch: "e1", run_id: "run_1", id, kind, at: new Date(1_700_000_000_000 + seq * 1000).toISOString(), sender, body };
}

export function shuffled(items, random) {
  const copy = [...items];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}

/** A small seeded generator, so a failure can be run again. */
export function seeded(seed) {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
