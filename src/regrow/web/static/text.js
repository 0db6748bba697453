// A message's text as nodes. Every character reaches the page as text; nothing here can make markup out of it.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+.-]*)[^`]*$/;
const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(https?:\/\/[^\s<>"'`，。；、）】》]+)/g;
// Characters that hide or turn text are shown as their code: a change must not read differently from what it does.
const ODD = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0])/;

export function make(tag, className = '', text = '') {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** The nodes of a text: paragraphs with `code`, **strong** and links; ``` fences; diffs with their colours. */
export function nodes(text) {
  const fragment = document.createDocumentFragment();
  let prose = [];
  const flush = () => {
    const paragraph = prose.join('\n').replace(/^\n+|\n+$/g, '');
    if (paragraph) fragment.append(inline(paragraph));
    prose = [];
  };
  const lines = text.split('\n');
  for (let at = 0; at < lines.length; at += 1) {
    const fence = FENCE.exec(lines[at]);
    if (!fence) {
      prose.push(lines[at]);
      continue;
    }
    flush();
    const code = [];
    const closes = (line) => line.trim().startsWith(fence[1]) && /^[`~]+$/.test(line.trim());
    for (at += 1; at < lines.length && !closes(lines[at]); at += 1) code.push(lines[at]);
    fragment.append(block(code, fence[2].toLowerCase()));
  }
  flush();
  return fragment;
}

function inline(text) {
  const paragraph = make('p');
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    paragraph.append(text.slice(from, match.index));
    const [whole, code, strong] = match;
    from = match.index + whole.length;
    if (code) paragraph.append(make('code', '', code.slice(1, -1)));
    else if (strong) paragraph.append(make('strong', '', strong.slice(2, -2)));
    else {
      const address = whole.replace(/[.,;:!?)\]]+$/, '');
      from -= whole.length - address.length;
      paragraph.append(link(address));
    }
  }
  paragraph.append(text.slice(from));
  return paragraph;
}

function link(address) {
  const anchor = make('a', '', address);
  anchor.href = address;
  anchor.rel = 'noopener noreferrer';
  if (new URL(address, location.href).origin !== location.origin) anchor.target = '_blank';
  return anchor;
}

function block(lines, name) {
  const pre = make('pre', name === 'diff' ? 'diff' : '');
  pre.tabIndex = 0; // so that a keyboard can scroll it
  const code = make('code');
  for (const line of lines) {
    const row = make('span', name === 'diff' ? `line ${kind(line)}` : 'line');
    line.split(ODD).forEach((part, at) => {
      if (at % 2 === 0) row.append(part);
      else row.append(make('span', 'odd', `U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`));
    });
    code.append(row, '\n');
  }
  pre.append(code);
  return pre;
}

function kind(line) {
  if (/^(diff |index |--- |\+\+\+ |new file|deleted file|rename |similarity )/.test(line)) return 'head';
  if (line.startsWith('@@')) return 'hunk';
  if (line.startsWith('+')) return 'added';
  if (line.startsWith('-')) return 'removed';
  return 'same';
}
