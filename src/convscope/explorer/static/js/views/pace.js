// When the page looks again while the model learns: by a clock that runs on, so that a timer that fires late, or one long
// look, makes the next one no later. A little over 20 times a second, which is what is asked; more only takes time.

export const PACE = 48; // ms from one look to the next, at least
const SERVER = 10; // of the server's time a look takes a tenth at most, in the mean of the latest looks
const WHOLE = 2; // and of the page's and the server's together half
const RECENT = 0.2; // how much the newest look counts in the mean

export class Pace {
  constructor(now) {
    this.due = now; // when the look under way was to begin
    this.took = null; // ms, the mean of the server's part
    this.spent = null; // ms, the mean of a whole look
  }

  // A look that began at `began` is done at `now`, `took` ms of it the server's. → ms until the next
  rest(began, now, took) {
    this.took = mean(this.took, took);
    this.spent = mean(this.spent, now - began);
    this.due = Math.max(now, this.due + Math.max(PACE, SERVER * this.took, WHOLE * this.spent));
    return this.due - now;
  }
}

// One look that took very long, of a page that was put to sleep in it, is no measure for those that follow.
function mean(before, newest) {
  return before === null ? newest : before + RECENT * (Math.min(newest, 3 * before + PACE) - before);
}
