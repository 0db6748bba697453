// Server-sent events that come back by themselves: after an error it tries again, later each time, and says so.
// EventSource alone gives up for good when a proxy or a starting daemon answers with an error.

import { say } from './words.js';

const FIRST_MS = 500;
const LONGEST_MS = 15000;
const OPEN_MS = 10000;
const SETTLED_MS = 3000;

export class Feed {
  /**
   * @param {string} url
   * @param {string} name - the event's name
   * @param {{open: () => void, event: (value: object) => void, lost: (ms: number) => void}} handlers
   */
  constructor(url, name, handlers) {
    Object.assign(this, { url, name, handlers, source: null, timer: 0, settling: 0, tries: 0, ended: false });
    window.addEventListener('online', () => this.hurry());
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.hurry(); });
    window.addEventListener('pagehide', () => this.#close());
    window.addEventListener('pageshow', (event) => { if (event.persisted) this.connect(); });
  }

  connect() {
    if (this.ended) return;
    this.#close();
    const source = new EventSource(this.url);
    this.source = source;
    this.timer = setTimeout(() => this.lose(), OPEN_MS);
    source.onopen = () => {
      clearTimeout(this.timer);
      this.timer = 0;
      // A server that takes the call and drops it at once is still down.
      this.settling = setTimeout(() => { this.tries = 0; }, SETTLED_MS);
      this.handlers.open();
    };
    source.onerror = () => this.lose();
    source.addEventListener(this.name, (event) => this.handlers.event(JSON.parse(event.data)));
  }

  /** The connection is gone, or another call showed that it must be. */
  lose() {
    if (this.ended || (this.timer && !this.source)) return;
    this.#close();
    const wait = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.tries) * (0.75 + Math.random() / 2);
    this.tries += 1;
    this.timer = setTimeout(() => this.connect(), wait);
    this.handlers.lost(wait);
  }

  /** Try now rather than when the wait is over. */
  hurry() {
    if (!this.ended && !this.source) this.connect();
  }

  stop() {
    this.ended = true;
    this.#close();
  }

  #close() {
    clearTimeout(this.timer);
    clearTimeout(this.settling);
    this.timer = 0;
    this.source?.close();
    this.source = null;
  }
}

/** The line under the head of the page that says whether the page is connected. */
export class Connection {
  constructor(element, retry) {
    Object.assign(this, { element, retry, timer: 0, wasLost: false });
  }

  lost(ms) {
    this.wasLost = true;
    const until = Date.now() + ms;
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = say('try_now');
    button.addEventListener('click', () => this.retry());
    const text = document.createElement('span');
    // The seconds count down for the eye only; a screen reader hears the sentence once.
    text.setAttribute('aria-hidden', 'true');
    const spoken = document.createElement('span');
    spoken.className = 'unseen';
    spoken.textContent = say('trying');
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      text.textContent = left > 1 ? say('lost', { seconds: left }) : say('trying');
    };
    clearInterval(this.timer);
    tick();
    this.timer = setInterval(tick, 500);
    this.#show('lost', text, ...(this.element.classList.contains('lost') ? [] : [spoken]), button);
  }

  open() {
    clearInterval(this.timer);
    if (!this.wasLost) return;
    this.wasLost = false;
    this.#show('open', say('back_online'));
    this.timer = setTimeout(() => { this.element.hidden = true; }, 2500);
  }

  signedOut() {
    clearInterval(this.timer);
    this.#show('lost', say('signed_out'));
  }

  #show(state, ...content) {
    this.element.className = `connection ${state}`;
    this.element.replaceChildren(...content);
    this.element.hidden = false;
  }
}
