// Loads the application, and loads it again if a part of it could not be fetched: a gateway that is just starting, or
// a machine that is very busy, must not leave a dead page behind.

const AGAIN_MS = 1500;

import('./main.js').catch((failure) => {
  const state = document.getElementById('link-text');
  if (document.documentElement.dataset.loaded === 'true') {
    state.textContent = 'This page has a bug, see the console';
    throw failure;
  }
  state.textContent = 'A part of this page did not arrive, loading again';
  setTimeout(() => location.reload(), AGAIN_MS * (1 + Math.random()));
});
