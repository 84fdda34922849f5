// What survives a reload: the cursor and the runs it belongs to, written in one transaction, so that the two can never
// disagree. A reload therefore continues without loss and without repeating anything.
// One page writes: the newest one to open. A page that was taken over stays correct in memory and stops writing.

const DATABASE = 'dashstream';
const VERSION = 1;

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Store {
  constructor(database, owner) {
    this.database = database;
    this.owner = owner;
    // off: this browser gives us no storage · on · taken: another page of this gateway writes now
    this.state = 'on';
    this.savedAt = null;
  }

  /** Never rejects: without storage the page works, and only a reload starts again. */
  static async open(place) {
    const owner = String(Math.random()).slice(2) + String(Date.now());
    try {
      const request = indexedDB.open(`${DATABASE} ${place}`, VERSION);
      request.onupgradeneeded = () => {
        request.result.createObjectStore('meta');
        request.result.createObjectStore('runs');
      };
      const database = await done(request);
      const store = new Store(database, owner);
      database.onversionchange = () => database.close();
      return store;
    } catch {
      const store = new Store(null, owner);
      store.state = 'off';
      return store;
    }
  }

  /** What was saved, or null; from here on the pages opened before this one no longer write. */
  async load() {
    if (this.state !== 'on') return null;
    try {
      const transaction = this.database.transaction(['meta', 'runs'], 'readwrite');
      const meta = transaction.objectStore('meta');
      const [saved, runs] = await Promise.all([done(meta.get('state')), done(transaction.objectStore('runs').getAll())]);
      await done(meta.put(this.owner, 'owner'));
      return saved ? { ...saved, runs: runs.sort((a, b) => a.order - b.order).map((r) => r.run) } : null;
    } catch {
      this.state = 'off';
      return null;
    }
  }

  /**
   * `take` is called inside the transaction and returns { meta, put: [[id, run]], remove: [id], clear } of one moment.
   * Resolves to false when nothing was written.
   */
  save(take) {
    if (this.state !== 'on') return Promise.resolve(false);
    return new Promise((resolve) => {
      let wrote = false;
      try {
        const transaction = this.database.transaction(['meta', 'runs'], 'readwrite');
        const meta = transaction.objectStore('meta');
        const runs = transaction.objectStore('runs');
        transaction.oncomplete = () => resolve(wrote);
        transaction.onabort = transaction.onerror = () => {
          this.state = 'off';
          resolve(false);
        };
        meta.get('owner').onsuccess = (event) => {
          if (event.target.result !== this.owner) {
            this.state = 'taken';
            return;
          }
          const now = take();
          if (now.clear) runs.clear();
          for (const id of now.remove) runs.delete(id);
          for (const [id, run] of now.put) runs.put(run, id);
          meta.put(now.meta, 'state');
          wrote = true;
        };
      } catch {
        this.state = 'off';
        resolve(false);
      }
    });
  }
}
