// Keeps parts of a page as the server would show them now. There is one way to draw them: the server's templates.
// A part is an element with an id and data-live; it is replaced whole, and only when it has changed.

import { duration, say, showTime } from './words.js';

const DEADLINE_MS = 10000;

/** Fetches `path` and replaces each part. Rejects with the HTTP status (0: no answer). */
export function refresh(path) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('GET', path);
    request.responseType = 'document';
    request.timeout = DEADLINE_MS;
    request.onload = () => {
      if (request.status !== 200 || !request.response) reject(request.status);
      else resolve(replace(request.response));
    };
    request.onerror = () => reject(0);
    request.ontimeout = () => reject(0);
    request.send();
  });
}

function replace(fresh) {
  for (const part of fresh.querySelectorAll('[data-live]')) {
    const old = document.getElementById(part.id);
    // Compared as the server sent them: times and durations are redrawn here, and would always differ.
    if (!old || old.sent?.isEqualNode(part)) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : '';
    const closed = [...old.querySelectorAll('details:not([open])')].map((each) => each.textContent);
    const scrolled = [...old.querySelectorAll('pre')].map((each) => each.scrollHeight - each.scrollTop - each.clientHeight);
    const element = document.importNode(part, true);
    element.sent = part;
    old.replaceWith(element);
    for (const each of element.querySelectorAll('details')) if (closed.includes(each.textContent)) each.open = false;
    [...element.querySelectorAll('pre')].forEach((each, at) => {
      if (at < scrolled.length && scrolled[at] < 24) each.scrollTop = each.scrollHeight;
    });
    if (focused) document.getElementById(focused)?.focus();
    dress(element);
  }
}

/** Shows times in this browser's own time and starts durations that go on. */
export function dress(root = document) {
  for (const element of root.querySelectorAll('time')) showTime(element);
  for (const element of root.querySelectorAll('[data-since]')) tick(element);
}

function tick(element) {
  const passed = duration(Date.now() / 1000 - Number(element.dataset.since));
  element.textContent = element.dataset.words ? say(element.dataset.words, { duration: passed }) : passed;
}

setInterval(() => {
  if (!document.hidden) for (const element of document.querySelectorAll('[data-since]')) tick(element);
}, 1000);
