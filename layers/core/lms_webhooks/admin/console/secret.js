// The signing secret: shown once, while another one may still sign.
import { button, confirmed, copy, dialog, download, fullTime, h, shortTime, t, time } from './dom.js';

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
    t('secret.title'),
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
