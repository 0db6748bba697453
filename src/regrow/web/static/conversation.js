// The conversation: one article a message, keyed by its id; a later revision takes the place of an earlier one.

import { CallFailed, post } from './wire.js';
import { say, showTime } from './words.js';
import { make, nodes } from './text.js';

const NEAR_PX = 80;
const KEPT = 400;

export class Conversation {
  constructor(element, scroller, { newer, empty, announcer }) {
    Object.assign(this, { element, scroller, newer, empty, announcer, shown: new Map(), notes: new Map(), pressing: new Set() });
    for (const article of element.querySelectorAll('article')) {
      const message = JSON.parse(article.dataset.message);
      this.shown.set(message.id, { message, article });
      this.#draw(message, article);
    }
    newer.addEventListener('click', () => this.toEnd());
    scroller.addEventListener('scroll', () => { if (this.#atEnd()) newer.hidden = true; }, { passive: true });
    this.toEnd();
  }

  /** The id after which everything is read again after a silence: what is recent or unfinished may have been edited. */
  get since() {
    const all = [...this.shown.values()].map(({ message }) => message);
    const open = all.filter((message, at) => at >= all.length - 50 || message.bar !== null || message.buttons.length);
    return open.length ? Math.max(0, open[0].id - 1) : 0;
  }

  /** Shows a message, or its newer revision. Older revisions, and what is shown already, change nothing. */
  put(given, { quiet = false } = {}) {
    const message = { job: null, bar: null, revision: 0, buttons: [], ...given };
    const before = this.shown.get(message.id);
    if (before && before.message.revision >= message.revision) return;
    const follow = this.#atEnd();
    const article = before?.article ?? make('article');
    this.shown.set(message.id, { message, article });
    if (before) this.notes.delete(message.id);
    this.#draw(message, article);
    if (!before) {
      this.#insert(message, article);
      if (message.mine) this.#dropPending(message.text);
      this.empty.hidden = true;
    }
    if (message.mine || follow) this.toEnd();
    else if (!before) this.newer.hidden = false;
    // Each move of a bar would talk over everything else.
    if (!quiet && !message.mine && (!before || message.bar === null)) this.#announce(message);
    this.#trim();
  }

  /** Shows what is being sent, and again when it could not be. Ends when the daemon has it. */
  async send(text, key) {
    const article = make('article', 'message mine pending');
    article.pendingText = text;
    this.empty.hidden = true;
    this.element.append(article);
    for (;;) {
      this.#drawPending(article, text, say('sending'));
      this.toEnd();
      try {
        const message = await post('/v1/chat/messages', { channel: 'web', chat: 'main', text, key });
        article.remove();
        this.put(message);
        return;
      } catch (error) {
        if (!(error instanceof CallFailed)) throw error;
        if (!article.isConnected) return; // it arrived by the feed; only the answer was lost
        this.#announceText(say('not_sent', { reason: error.message }));
        // Never by itself: what was asked a while ago may no longer be wanted now.
        await this.#again(article, text, say('not_sent', { reason: error.message }));
      }
    }
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.newer.hidden = true;
  }

  #atEnd() {
    return this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < NEAR_PX;
  }

  #insert(message, article) {
    const later = [...this.shown.values()].filter((each) => each.message.id > message.id && each.article.isConnected)
      .sort((one, other) => one.message.id - other.message.id)[0];
    const pending = this.element.querySelector('.pending');
    this.element.insertBefore(article, later?.article ?? pending);
  }

  #dropPending(text) {
    const same = [...this.element.querySelectorAll('.pending')].find((each) => each.pendingText === text);
    same?.remove();
  }

  #trim() {
    if (this.shown.size <= KEPT || !this.#atEnd()) return;
    const [id, oldest] = [...this.shown].sort(([one], [other]) => one - other)[0];
    oldest.article.remove();
    this.shown.delete(id);
  }

  #draw(message, article) {
    const held = article.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
    article.id = `m${message.id}`;
    article.className = `message ${message.mine ? 'mine' : 'theirs'}`;
    article.dataset.revision = String(message.revision);
    const head = make('header');
    head.append(make('span', 'author', message.mine ? say('you') : message.author), ' ', time(message.at));
    if (message.job !== null) {
      const job = make('a', '', say('job', { id: message.job }));
      job.href = `/jobs/${message.job}`;
      head.append(' ', job);
    }
    const text = make('div', 'text');
    text.append(nodes(message.text));
    article.replaceChildren(head, text);
    if (message.bar !== null) {
      const bar = article.bar ?? make('progress'); // the same element, so that it moves rather than jumps
      bar.max = 1;
      bar.value = message.bar;
      bar.setAttribute('aria-label', say('progress'));
      article.bar = bar;
      article.append(bar);
    }
    if (message.buttons.length) article.append(this.#buttons(message));
    const note = make('p', 'note');
    note.setAttribute('role', 'status');
    article.append(note);
    this.#drawNote(message.id);
    if (held !== undefined) [...article.querySelectorAll('button')].find((each) => each.dataset.action === held)?.focus();
  }

  #buttons(message) {
    const row = make('div', 'buttons');
    row.setAttribute('role', 'group');
    row.setAttribute('aria-label', say('choices'));
    for (const choice of message.buttons) {
      const button = make('button', choice.style, choice.label);
      button.type = 'button';
      button.dataset.action = choice.action;
      button.disabled = this.pressing.has(message.id);
      button.addEventListener('click', () => this.#press(message.id, choice.action));
      row.append(button);
    }
    return row;
  }

  async #press(id, action) {
    if (this.pressing.has(id)) return;
    this.pressing.add(id);
    this.#enable(id, false);
    let result;
    try {
      result = await post('/v1/chat/actions', { message: id, action });
    } catch (error) {
      if (!(error instanceof CallFailed)) throw error;
      result = { ok: false, text: error.message };
    }
    this.pressing.delete(id);
    this.notes.set(id, { ok: result.ok, text: result.text || say('pressed') });
    this.#enable(id, !result.ok); // what was done is not offered again; an edit of the message says what is next
    this.#drawNote(id);
  }

  #enable(id, yes) {
    for (const button of this.shown.get(id)?.article.querySelectorAll('.buttons button') ?? []) button.disabled = !yes;
  }

  #drawNote(id) {
    const note = this.shown.get(id)?.article.querySelector(':scope > .note');
    const given = this.notes.get(id);
    if (!note) return;
    note.textContent = given ? `${given.ok ? '✓' : '✗'} ${given.text}` : '';
    note.classList.toggle('bad', given?.ok === false);
  }

  #drawPending(article, text, state) {
    const head = make('header');
    head.append(make('span', 'author', say('you')), ' ', make('span', '', state));
    const body = make('div', 'text');
    body.append(nodes(text));
    article.classList.remove('failed');
    article.replaceChildren(head, body);
  }

  #again(article, text, reason) {
    this.#drawPending(article, text, reason);
    article.classList.add('failed');
    const button = make('button', 'plain', say('again'));
    button.type = 'button';
    const row = make('div', 'buttons');
    row.append(button);
    article.append(row);
    this.toEnd();
    return new Promise((resolve) => { button.addEventListener('click', resolve, { once: true }); });
  }

  #announce(message) {
    this.#announceText(`${message.author}: ${message.text.replace(/(`{3,}|~{3,})[\s\S]*?(\1|$)/g, ' ').slice(0, 400)}`);
  }

  #announceText(text) {
    this.announcer.textContent = text;
  }
}

function time(at) {
  const element = make('time');
  element.dateTime = new Date(at * 1000).toISOString();
  showTime(element);
  return element;
}
