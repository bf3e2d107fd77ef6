const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** "14:05", in the reader's own zone. @param {string} iso */
export function clockTime(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? "" : clock.format(date);
}

/** The whole date and time, for titles. @param {string} iso */
export function fullTime(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? "" : full.format(date);
}

/** "42 s", "3 min 05 s", "1 h 20 min". @param {number} ms */
export function elapsed(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** A step's own time: "0.4 s", "12 s". @param {number} ms */
export function duration(ms) {
  if (ms < 950) return `${Math.max(0.1, Math.round(ms / 100) / 10)} s`;
  return ms < 60_000 ? `${Math.round(ms / 1000)} s` : elapsed(ms);
}
