/** What the server's close codes ask of us (docs/wire.md). */
export const GOING_AWAY = 1001;
export const OVERLOADED = 1013;
export const SLOW_READER = 4000;
export const UNAUTHENTICATED = 4401;
export const FORBIDDEN = 4403;
export const FLOOD = 4429;

/**
 * @param {number} code
 * @returns {"now"|"later"|"slowly"|"sign-in"|"never"} when to come back
 */
export function reconnectAfter(code) {
  if (code === UNAUTHENTICATED) return "sign-in";
  if (code === FORBIDDEN) return "never";
  if (code === SLOW_READER) return "now";
  if (code === FLOOD || code === OVERLOADED || code === 4400 || code === 1009) return "slowly";
  return "later";
}
