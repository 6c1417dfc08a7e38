// The signed-in user, and calls of the API. The token stays in the session storage of this tab, never in an address.

// The gateway answers within 30 s.
const MOST_MS = 31_000;
const base = new URL('./', location.href.split('#')[0]);
const page = location.href.split(/[?#]/)[0];

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.message ?? `HTTP ${status}`);
    this.status = status;
    this.slug = document.type?.split(':').pop();
    this.detail = this.message;
    this.errors = document.errors ?? [];
    this.isSessionOver = status === 401;
  }
}

let config;
let endpoints;
let token = sessionStorage.getItem('token');
let whenOver = () => {};

export const onSessionOver = (act) => {
  whenOver = act;
};

async function getJson(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Problem(response.status, {});
  return response.json();
}

const settings = async () => (config ??= await getJson(new URL('console/config.json', base)));

async function provider() {
  const { signInUrl, issuer } = await settings();
  if (signInUrl) {
    return { authorize: `${signInUrl}/oauth2/authorize`, token: `${signInUrl}/oauth2/token`, end: `${signInUrl}/logout`, scope: 'openid', endsAt: 'logout_uri' };
  }
  const found = await getJson(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
  return { authorize: found.authorization_endpoint, token: found.token_endpoint, end: found.end_session_endpoint, scope: 'openid email', endsAt: 'post_logout_redirect_uri' };
}

const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/[+]/g, '-').replace(/[/]/g, '_').replace(/=+$/, '');
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** Sign in at the provider, and come back to this address. */
export async function signIn() {
  endpoints ??= await provider();
  const [verifier, state, nonce] = [random(), random(), random()];
  const challenge = base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier)));
  sessionStorage.setItem('signing-in', JSON.stringify({ verifier, state, nonce, hash: location.hash }));
  const query = new URLSearchParams({
    response_type: 'code',
    client_id: config.clientId,
    redirect_uri: page,
    scope: endpoints.scope,
    state,
    nonce,
    code_challenge: challenge,
    code_challenge_method: 'S256',
  });
  location.assign(`${endpoints.authorize}?${query}`);
}

/** Finish what `signIn` began, if the provider sent us back. Returns false if it failed. */
export async function finishSignIn() {
  const query = new URLSearchParams(location.search);
  if (!query.has('code') && !query.has('error')) return true;
  const begun = JSON.parse(sessionStorage.getItem('signing-in') ?? '{}');
  sessionStorage.removeItem('signing-in');
  history.replaceState(null, '', page + (begun.hash ?? ''));
  // A code that is not ours, or that somebody slipped to us, lacks our state.
  if (query.has('error') || !begun.state || query.get('state') !== begun.state) return false;
  endpoints ??= await provider();
  const response = await fetch(endpoints.token, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      client_id: config.clientId,
      redirect_uri: page,
      code: query.get('code'),
      code_verifier: begun.verifier,
    }),
  });
  if (!response.ok) return false;
  const { id_token: idToken } = await response.json();
  if (!idToken || claimsOf(idToken).nonce !== begun.nonce) return false;
  token = idToken;
  sessionStorage.setItem('token', token);
  return true;
}

function claimsOf(jwt) {
  const text = atob(jwt.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
}

/** Return the signed-in user, if the token is valid. The API checks it again at each call. */
export async function currentUser() {
  await settings();
  if (!token) return undefined;
  const claims = claimsOf(token);
  const endsAt = claims.exp * 1000;
  if (endsAt <= Date.now()) {
    forgetToken();
    return undefined;
  }
  const roles = [claims[config.roleClaim] ?? []].flat().join(' ').split(/[\s,]+/);
  return {
    account: claims[config.accountClaim],
    user: claims.email ?? claims['cognito:username'] ?? claims.preferred_username ?? claims.sub,
    canWrite: roles.includes(config.adminRole),
    endsAt,
  };
}

export function forgetToken() {
  token = null;
  sessionStorage.removeItem('token');
}

export async function signOut() {
  forgetToken();
  endpoints ??= await provider();
  if (!endpoints.end) return location.reload();
  location.assign(`${endpoints.end}?${new URLSearchParams({ client_id: config.clientId, [endpoints.endsAt]: page })}`);
}

// A read beside a write may show what was before it, or ask for what it deletes. One that hangs is not waited for.
const polls = new Set();
let writes = 0;

export const isWriting = () => writes > 0;

/** Read again. A write waits until it ended. */
export function poll(act) {
  const running = act().finally(() => polls.delete(running));
  polls.add(running);
  return running;
}

// A click needs both its halves on one element, so what is read meanwhile is drawn after it: 50 ms, as the click
// of a touch comes later than its end; 5 s, as that end may never be told, as over a menu of the browser.
let released;
addEventListener('pointerdown', () => {
  released = new Promise((go) => {
    addEventListener('pointerup', () => setTimeout(go, 50), { once: true });
    setTimeout(go, 5000);
  });
});

/** Call the API: returns body, ETag and text. */
export async function call(method, path, options) {
  if (method === 'GET') {
    const read = await send(method, path);
    await released;
    return read;
  }
  writes += 1;
  try {
    await Promise.race([Promise.allSettled(polls), new Promise((go) => setTimeout(go, 3000))]);
    return await send(method, path, options);
  } finally {
    writes -= 1;
  }
}

/** Repeats a POST whose response was lost, which its key makes safe. */
async function send(method, path, { body, etag } = {}) {
  const headers = { authorization: `Bearer ${token}` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (etag) headers['if-match'] = etag;
  if (method === 'POST') headers['idempotency-key'] = crypto.randomUUID();
  const ask = async () => {
    const asked = await fetch(new URL(`v1/${path}`, base), { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(MOST_MS) });
    return [asked, await asked.text()];
  };
  let response;
  let text;
  try {
    [response, text] = await ask().catch((error) => {
      if (method !== 'POST') throw error;
      return ask();
    });
  } catch {
    throw new Problem(0, { detail: 'The API cannot be reached.' });
  }
  if (!response.ok) {
    let document = {};
    try {
      document = JSON.parse(text);
    } catch {
      // A page of the gateway adds nothing to its status.
    }
    if (response.status === 401) {
      forgetToken();
      whenOver();
    }
    throw new Problem(response.status, document);
  }
  return { body: text ? JSON.parse(text) : undefined, etag: response.headers.get('etag'), text };
}

let types;
export const eventTypes = async () => (types ??= (await call('GET', 'event-types')).body.eventTypes);
