// What every screen uses: elements, words, times. Text goes in as text, never as HTML.
import { first, known, load } from './words.js';

// Elements

function build(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else if (name === 'checked') element.checked = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export const h = (name, properties, ...children) => build(document.createElement(name), properties, children);

export const s = (name, properties, ...children) =>
  build(document.createElementNS('http://www.w3.org/2000/svg', name), properties, children);

let ids = 0;
export const newId = (stem) => `${stem}-${(ids += 1)}`;

/** Return a button that ignores clicks while it acts, and keeps the focus. */
export function button(label, act, properties = {}) {
  const element = h('button', { type: 'button', ...properties }, label);
  element.addEventListener('click', async () => {
    if (element.getAttribute('aria-disabled') === 'true') return;
    element.setAttribute('aria-disabled', 'true');
    try {
      await act(element);
    } catch (error) {
      showError(error);
    } finally {
      element.removeAttribute('aria-disabled');
    }
  });
  return element;
}

/** Return a label, a control, a hint and an error, linked for screen readers. */
export function field(label, control, { hint, required, aside } = {}) {
  const id = control.id || newId('field');
  control.id = id;
  const error = h('p', { class: 'error', id: `${id}-error`, hidden: true });
  const note = hint && h('p', { class: 'hint', id: `${id}-hint` }, hint);
  control.setAttribute('aria-describedby', `${note ? `${id}-hint ` : ''}${id}-error`);
  if (required) control.setAttribute('aria-required', 'true');
  return h(
    'div',
    { class: 'field' },
    h('div', { class: 'label' }, h('label', { for: id }, label, required && h('span', { class: 'star', 'aria-hidden': 'true' }, ' *')), aside),
    control,
    note,
    error,
  );
}

/** Return a part of a screen, with a name for screen readers. */
export const panel = (name, ...children) => h('section', { class: 'panel', 'aria-label': name }, ...children);

/** Return a table. A column is the key of its word, and may have a class. */
export const table = (name, columns, body, properties) =>
  h('table', properties, h('caption', { class: 'unseen' }, name), h('thead', {}, h('tr', {}, columns.map((each) => [each].flat()).map(([key, style]) => h('th', { scope: 'col', class: style }, t(key))))), body);

/** Show an error beside a control, or remove it if there is no text. */
export function showFieldError(control, text) {
  const error = document.getElementById(`${control.id}-error`);
  if (text) control.setAttribute('aria-invalid', 'true');
  else control.removeAttribute('aria-invalid');
  error.textContent = text ?? '';
  error.hidden = !text;
}

/** Show a modal dialog; returns the value that it was closed with. The browser handles the focus. One that `stays` ends by its buttons only. */
export function dialog(title, body, buttons, { stays } = {}) {
  const id = newId('dialog');
  const element = h('dialog', { 'aria-labelledby': id, class: stays && 'stays', closedby: stays && 'none' });
  const { promise, resolve } = Promise.withResolvers();
  element.append(
    h('h2', { id }, title),
    h('div', { class: 'body' }, body),
    h('div', { class: 'actions' }, buttons((value) => element.close(value))),
  );
  if (stays) {
    // A browser without `closedby` closes at Escape; a second one cannot be cancelled as `cancel` can.
    element.addEventListener('keydown', (event) => event.key === 'Escape' && event.preventDefault());
    element.addEventListener('cancel', (event) => event.preventDefault());
  }
  element.addEventListener('close', () => {
    element.remove();
    resolve(element.returnValue);
  });
  document.body.append(element);
  element.showModal();
  return promise;
}

export async function confirmed(title, text, action, { danger } = {}) {
  const said = await dialog(title, h('p', {}, text), (close) => [
    button(t('cancel'), () => close('')),
    button(action, () => close('yes'), { class: danger ? 'danger' : 'primary' }),
  ]);
  return said === 'yes';
}

let fading;
let isForNextScreen = false;
/** Announce a success, visibly and to screen readers. It ends with the screen, or with the next one. */
export function announce(text, { onNextScreen = false } = {}) {
  const place = document.getElementById('said');
  clearTimeout(fading);
  isForNextScreen = onNextScreen;
  place.replaceChildren(h('p', {}, text));
  fading = setTimeout(() => place.replaceChildren(), 8000);
}

/** Remove what the last screen said. */
export function clearMessages() {
  if (!isForNextScreen) document.getElementById('said').replaceChildren();
  isForNextScreen = false;
  clearError();
}

/** Show an error. It stays until the user closes it or something succeeds. */
export function showError(error) {
  if (error?.isSessionOver) return;
  if (!error?.detail) console.error(error);
  const text = error?.detail ? rule(error.detail) : t('fault');
  const place = document.getElementById('failed');
  place.replaceChildren(
    h('p', {}, text, h('button', { type: 'button', class: 'plain', 'aria-label': t('close'), onclick: () => place.replaceChildren() }, '×')),
  );
}

export function clearError() {
  document.getElementById('failed').replaceChildren();
}

/** Return a button that copies a text. */
export const copyButton = (text, what) => button(t('copy'), () => copy(text), { class: 'small copy', 'aria-label': `${t('copy')}: ${what}` });

export async function copy(text) {
  await navigator.clipboard.writeText(text);
  announce(t('copied'));
}

/** Return a text in the font of code, beside a button that copies it. */
export const copyable = (text, what) => h('span', { class: 'copyable' }, h('code', {}, text), copyButton(text, what));

export function download(name, content) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: 'application/json' }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Words

export let language = first;
let words = {};
let rules = {};
let labels = {};
export let locale = first;

export async function setLanguage(code) {
  const wanted = known(code);
  ({ words, rules, events: labels } = await load(wanted));
  language = wanted;
  // The most specific language of the browser, such as en-GB, which decides how dates are written.
  locale = navigator.languages.find((each) => each.slice(0, 2) === language) ?? language;
  document.documentElement.lang = language;
  document.getElementById('skip').textContent = t('skip');
}

export const isWord = (key) => key in words;

/** The words for a key, with what stands in braces put in; `n` also chooses between one and many. */
export function t(key, values = {}) {
  const counted = `${key}.${values.n === 1 ? 'one' : 'many'}`;
  const text = words[values.n !== undefined && isWord(counted) ? counted : key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => (name === 'n' ? number(values.n) : values[name]));
}

/** Translate a rule of the API, which is in English, if the language has it. */
export function rule(detail) {
  const begins = Object.keys(rules).find((each) => detail.startsWith(each));
  return begins ? rules[begins].replace('{n}', detail.match(/[\w-]{16,}|\d+/)) : detail;
}

/** Describe an error class, with the reason, if known. */
export const errorText = (errorClass, reason) => t(`error.${errorClass}`) + (reason ? `: ${rule(reason)}` : '');

const FIELDS = { targetUrl: 'target-url', ordered: 'order', batchSchedule: 'schedule', keepResponseBodies: 'bodies' };
/** Name a field of a webhook as the form does. */
export const fieldLabel = (name) => t(FIELDS[name] ?? name);

export const eventLabel = (type) => labels[type.eventName] ?? type.translations?.[language] ?? type.label;

// Numbers and times

export const number = (value) => new Intl.NumberFormat(locale).format(value);

export const milliseconds = (value) => (value >= 1000 ? `${new Intl.NumberFormat(locale, { maximumFractionDigits: 1 }).format(value / 1000)} s` : `${number(value)} ms`);

export const atLeast = ({ count, atLeast: more }) => number(count) + (more ? '+' : '');

const FULL = { dateStyle: 'medium', timeStyle: 'medium' };
export const fullTime = (iso) => new Intl.DateTimeFormat(locale, FULL).format(new Date(iso));

export function shortTime(iso) {
  const time = new Date(iso);
  const isToday = time.toDateString() === new Date().toDateString();
  const day = isToday ? {} : { day: 'numeric', month: 'short' };
  return new Intl.DateTimeFormat(locale, { ...day, hour: '2-digit', minute: '2-digit', second: '2-digit' }).format(time);
}

const UNITS = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
export function relative(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? UNITS[3];
  return new Intl.RelativeTimeFormat(locale, { numeric: 'auto' }).format(Math.trunc(seconds / size), unit);
}

export const time = (iso, write = relative) => h('time', { datetime: iso, title: fullTime(iso) }, write(iso));
