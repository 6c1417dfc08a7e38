// When non-real-time events go out: the words for a schedule, and its part of the form.
import { field, h, t } from './dom.js';

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
