/** How long to wait before dialling again: full jitter, so that a crowd spreads by itself. */

const FIRST = 500;
const LONGEST = 20_000;

export const createBackoff = () => {
  let doublings = 0;
  return {
    /**
     * The next delay in milliseconds: U(0, min(20 s, 0.5 s · 2ⁿ)).
     *
     * @param {number} life how long the lost link was open, in milliseconds; NaN if it never was
     */
    delay(life) {
      if (life >= 5000) doublings = 0;
      const cap = Math.min(LONGEST, FIRST * 2 ** doublings++);
      return Math.random() * (life >= 1000 ? Math.min(cap, 1000) : cap);
    },

    /** A link opened: trust it half, until it has lived for five seconds. */
    halve() {
      doublings >>= 1;
    },
  };
};
