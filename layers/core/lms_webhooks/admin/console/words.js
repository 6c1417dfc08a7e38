// The languages. This loads first, so that the words arrive beside the code, and those of one language only.
export const LANGUAGES = { en: 'English', it: 'Italiano' };

const modules = { en: () => import('./en.js'), it: () => import('./it.js') };
export const known = (code) => (code in LANGUAGES ? code : 'en');
export const load = (code) => modules[code]();

/** The language that was chosen before, or else the browser's. */
export const first = known(localStorage.getItem('language') ?? navigator.language.slice(0, 2));
load(first).catch(() => {}); // the page says so where it needs them
