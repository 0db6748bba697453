// The chat page: the conversation, the message box, the feed that keeps both the conversation and the strip fresh.

import { Connection, Feed } from './feed.js';
import { Conversation } from './conversation.js';
import { dress, refresh } from './live.js';
import { key, read } from './wire.js';

const STATE_MS = 5000;
const DRAFT = 'regrow draft';

const at = (id) => document.getElementById(id);
const box = at('say');
const form = at('composer');
const send = form.querySelector('button');
const title = document.title;
let unread = 0;

const conversation = new Conversation(at('conversation'), at('scroller'), {
  newer: at('newer'), empty: at('empty'), announcer: at('announcer'),
});
const connection = new Connection(at('connection'), () => feed.connect());
const feed = new Feed('/v1/chat/events?channel=web&chat=main', 'message', {
  open: () => { connection.open(); catchUp(); },
  event: (message) => {
    const fresh = !conversation.shown.has(message.id);
    conversation.put(message);
    if (fresh && !message.mine && document.hidden) document.title = `(${unread += 1}) ${title}`;
    if (message.job !== null) soon();
  },
  lost: (ms) => connection.lost(ms),
});

// The feed is open before this reads, so nothing falls between; what comes twice is known by its id and revision.
async function catchUp() {
  try {
    const query = `channel=web&chat=main&after=${conversation.since}`;
    for (const message of await read(`/v1/chat/messages?${query}`)) conversation.put(message, { quiet: true });
  } catch (error) {
    fail(error.status);
  }
  soon();
}

let timer = 0;
let reading = false;

function soon(ms = 150) {
  clearTimeout(timer);
  timer = setTimeout(state, ms);
}

// Also the feed's heartbeat: an event stream whose other end has vanished stays silent for minutes.
async function state() {
  if (reading) return;
  reading = true;
  try {
    if (!document.hidden) await refresh('/strip');
  } catch (status) {
    fail(status);
  } finally {
    reading = false;
    soon(STATE_MS);
  }
}

function fail(status) {
  if (status === 401) {
    feed.stop();
    connection.signedOut();
  } else if (status === 0) {
    feed.lose();
  }
}

function grow() {
  box.style.height = 'auto';
  box.style.height = `${box.scrollHeight + 2}px`;
  send.disabled = !box.value.trim();
  sessionStorage.setItem(DRAFT, box.value);
}

function say(text) {
  box.value = text;
  grow();
  box.focus();
  box.setSelectionRange(text.length, text.length);
}

box.addEventListener('input', grow);
box.addEventListener('keydown', (event) => {
  // While an input method is composing, Enter takes its suggestion; 229 is how some browsers say so.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  form.requestSubmit();
});
form.addEventListener('submit', (event) => {
  event.preventDefault();
  const text = box.value.trim();
  if (!text) return;
  say('');
  conversation.send(text, key());
});
// A suggestion is put into the box and not sent: a slip of the finger must not restart a service.
for (const chip of document.querySelectorAll('.chip')) chip.addEventListener('click', () => say(chip.dataset.text));
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  document.title = title;
  unread = 0;
  soon();
});
new ResizeObserver(() => { if (at('newer').hidden) conversation.toEnd(); }).observe(at('scroller'));

dress();
box.value = sessionStorage.getItem(DRAFT) ?? '';
grow();
if (matchMedia('(hover: hover)').matches) box.focus(); // on a phone this would raise the keyboard
feed.connect();
