// What the form and the page of a webhook share: its signing secret, and when non-real-time events go out.
import { button, confirmed, copy, dialog, download, field, fullTime, h, shortTime, t, time } from './dom.js';

// The signing secret: shown once, while another one may still sign.

/** Whether two secrets sign. A new one would end the older of them at once. */
export const hasTwoSecrets = ({ authentication }) => new Date(authentication.previousSecretExpiresAt ?? 0) > new Date();

export const confirmOverlapEnd = ({ authentication }) => confirmed(t('rotate.title'), t('rotate.overlap', { time: fullTime(authentication.previousSecretExpiresAt) }), t('generate'), { danger: true });

/** Show the secret, the only time that it can be seen. It goes when it was stored, or when that is asked for twice. */
export async function showSecret(secret, name) {
  let isStored = false;
  const stored = () => {
    isStored = true;
    warning.hidden = true;
  };
  const shown = h('input', { readonly: true, value: secret.secret, 'aria-label': t('secret'), class: 'code', onfocus: (event) => event.target.select(), oncopy: stored });
  const warning = h('p', { class: 'error', role: 'alert', hidden: true });
  await dialog(
    t('secret'),
    [
      h('p', {}, t('secret.text', { name })),
      shown,
      secret.previousSecretExpiresAt && h('p', { class: 'hint' }, t('secret.previous'), ' ', time(secret.previousSecretExpiresAt, shortTime), '.'),
      warning,
    ],
    (close) => [
      button(t('copy'), async () => {
        shown.select();
        await copy(secret.secret);
        stored();
      }),
      button(t('download'), () => (download(`${secret.webhookId}-signing-secret.json`, secret), stored()), { class: 'primary' }),
      button(t('done'), () => {
        if (isStored || !warning.hidden) return close('');
        warning.hidden = false;
        warning.textContent = t('secret.unstored');
        return undefined;
      }),
    ],
    { stays: true },
  );
}

// The schedule: the words for it, and its part of the form.

export const scheduleText = ({ everyMinutes, dailyAt, timeZone }) => (dailyAt ? t('schedule.at', { times: dailyAt.join(', '), zone: timeZone }) : t('schedule.every', { n: everyMinutes }));

/** Make the fields of a schedule. A new webhook without one has that of the system; a saved one keeps what it is not told. */
export function makeSchedule(saved) {
  const before = saved ?? {};
  const kind = h('select', { onchange: show }, ['period', 'daily'].map((each) => h('option', { value: each, selected: (each === 'daily') === Boolean(before.dailyAt) }, t(`schedule.${each}`))));
  const minutes = h('input', { type: 'number', min: 5, max: 1440, step: 1, value: before.everyMinutes ?? '' });
  const times = h('input', { autocomplete: 'off', placeholder: '02:00, 14:30', value: before.dailyAt?.join(', ') ?? '' });
  const zones = h('datalist', { id: 'zones' }, ['UTC', ...Intl.supportedValuesOf('timeZone')].map((value) => h('option', { value })));
  const zone = h('input', { autocomplete: 'off', spellcheck: 'false', list: 'zones', value: before.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone });
  const period = h('div', {}, field(t('schedule.minutes'), minutes, { hint: t(saved ? 'schedule.minutes.rule' : 'schedule.minutes.hint') }));
  const daily = h('div', { class: 'pair' }, field(t('schedule.times'), times, { hint: t('schedule.times.hint') }), field(t('schedule.zone'), zone), zones);
  function show() {
    period.hidden = kind.value !== 'period';
    daily.hidden = kind.value !== 'daily';
  }
  show();
  return {
    element: [field(t('schedule'), kind), period, daily],
    controls: { 'batchSchedule/everyMinutes': minutes, 'batchSchedule/dailyAt': times, 'batchSchedule/timeZone': zone },
    read() {
      if (kind.value === 'daily') return { dailyAt: [...new Set(times.value.split(/[\s,;]+/).filter(Boolean))].sort(), timeZone: zone.value.trim() };
      return minutes.value || saved ? { everyMinutes: Math.trunc(minutes.value) } : undefined;
    },
  };
}
