/** @import {Hint, Run} from "../types.js" */
import { Api } from "../api.js";
import { Outbox } from "../outbox.js";
import { Drafts } from "../store/drafts.js";
import { ReadMarks } from "../store/read-marks.js";
import { SafeStorage } from "../store/safe-storage.js";
import { Connection } from "./connection.js";
import { RunFeed } from "./run-feed.js";
import { Signal } from "./signal.js";

/** Silence this long is told to the person. */
const PATIENCE_MS = 2_000;
const RECONCILE_MS = 1_000;
const WHO = "omakase:who";

/**
 * What every part of a page shares: one socket for all runs, one outbox, one set of feeds. Two chat panels of
 * the same run show the same feed. `SharedClient.of(base)` is the one for a server.
 */
export class SharedClient {
  /** @type {Map<string, SharedClient>} */
  static all = new Map();

  /** @param {string} [base] @returns {SharedClient} */
  static of(base = "") {
    let client = SharedClient.all.get(base);
    if (!client) {
      client = new SharedClient(base);
      SharedClient.all.set(base, client);
    }
    return client;
  }

  /** @param {string} base origin of the server, "" for this page's own */
  constructor(base) {
    this.base = base;
    this.signal = new Signal();
    this.isSignedOut = false;
    this.api = new Api(base, {
      onUnauthenticated: () => {
        this.isSignedOut = true;
        this.signal.notify();
      },
    });
    /** @type {any} */
    this.principal = null;
    /** @type {string|null} where Celery tasks are shown */
    this.flowerUrl = null;
    /** Whether there are terminals here and this person may open one; the server asks again. */
    this.mayOpenTerminal = false;
    this.storage = new SafeStorage();
    this.drafts = new Drafts(this.storage);
    this.readMarks = new ReadMarks(this.storage);
    /** @type {Set<(runId: string, key: string) => void>} */
    this.sentListeners = new Set();
    this.outbox = new Outbox({
      storage: this.storage,
      me: () => this.principal?.id,
      post: (runId, body, key) => this.api.postMessage(runId, body, key),
      onChange: (runId) => {
        if (this.outbox?.of(runId).some((entry) => entry.state === "failed")) this.reconcileSoon();
        this.feeds.get(runId)?.feed.signal.notify();
        this.signal.notify();
      },
      onSent: (runId, key, event) => {
        this.feeds.get(runId)?.feed.applied(event);
        for (const listener of this.sentListeners) listener(runId, key);
      },
    });
    /** @type {Map<string, {feed: RunFeed, users: number}>} */
    this.feeds = new Map();
    /** @type {Map<string, Set<(hint: Hint) => void>>} by project id */
    this.projects = new Map();
    this.isSilent = false;
    /** @type {any} */
    this.patience = null;
    /** @type {any} */
    this.reconciling = null;
    const url = new URL("/api/live", base || location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.connection = new Connection(url.href, {
      onFrame: (frame) => this.heard(frame),
      onState: (state, why) => this.moved(state, why),
    });
    addEventListener("offline", () => this.connection.lost("offline"));
    addEventListener("online", () => this.connection.hurry());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.connection.hurry();
    });
  }

  /** Open the socket (once) and learn who speaks. */
  async start() {
    this.connection.open();
    await this.introduce();
  }

  /** Learn who writes here, if that is not known yet, and send what that person could not. */
  async introduce() {
    if (!this.principal) {
      try {
        const session = await this.api.session();
        this.principal = session.principal;
        this.forgetOthers();
        this.outbox.adopt();
        this.flowerUrl = session.flower_url;
        this.mayOpenTerminal = session.terminal === true;
      } catch {
        // 401 is told by isSignedOut; anything else shows where it is asked for
      }
      this.signal.notify();
    }
    void this.outbox.retryAll();
  }

  /** What somebody else began to write here, and how far they have read, is not this person's. */
  forgetOthers() {
    if (![null, this.principal.id].includes(this.storage.read(WHO))) {
      this.drafts.clear();
      this.readMarks.clear();
    }
    this.storage.write(WHO, this.principal.id);
  }

  /** @param {string} runId @returns {RunFeed} give it back with `release` */
  acquire(runId) {
    let entry = this.feeds.get(runId);
    if (!entry) {
      const feed = new RunFeed(runId, { api: this.api, subscribe: (which) => this.subscribe(which) });
      entry = { feed, users: 0 };
      this.feeds.set(runId, entry);
    }
    entry.users++;
    return entry.feed;
  }

  /** @param {string} runId */
  release(runId) {
    const entry = this.feeds.get(runId);
    if (!entry || --entry.users > 0) return;
    this.feeds.delete(runId);
    this.connection.send({ type: "unsubscribe", run_id: runId });
  }

  /** @param {RunFeed} feed */
  subscribe(feed) {
    this.connection.send({ type: "subscribe", run_id: feed.runId, after: feed.cursor, epoch: feed.epoch });
  }

  /** Whether this person may start pipelines and give orders. */
  get maySteer() {
    return ["operator", "owner"].includes(this.principal?.level);
  }

  /** Whether this person may make projects, features and runs. */
  get mayCreate() {
    return this.principal?.level === "owner";
  }

  /** @param {string} projectId @param {(hint: Hint) => void} listener called with what should be fetched again */
  watch(projectId, listener) {
    const listeners = this.projects.get(projectId) ?? new Set();
    listeners.add(listener);
    this.projects.set(projectId, listeners);
    this.connection.send({ type: "watch", project_id: projectId });
    return () => {
      listeners.delete(listener);
      if (!listeners.size) this.projects.delete(projectId);
    };
  }

  /** @param {any} frame */
  heard(frame) {
    if (frame.type === "runs" || frame.type === "features") {
      for (const listener of this.projects.get(frame.project_id) ?? []) listener(frame);
    } else if (frame.run_id) {
      this.feeds.get(frame.run_id)?.feed.heard(frame);
    }
  }

  /** What stands in a log although its reply got lost: the same key again says so to the outbox. */
  reconcileSoon() {
    if (this.reconciling) return;
    this.reconciling = setTimeout(() => {
      this.reconciling = null;
      for (const { feed } of this.feeds.values()) {
        const found = new Set(feed.view.ordered.map((event) => this.outbox.entryOf(event, this.principal?.id)?.key));
        for (const entry of this.outbox.of(feed.runId)) {
          if (entry.state === "failed" && found.has(entry.key)) void this.outbox.deliver(entry.key);
        }
      }
    }, RECONCILE_MS);
  }

  /** @param {string} state @param {string} [why] */
  moved(state, why) {
    clearTimeout(this.patience);
    if (state === "connected") {
      this.isSilent = false;
      for (const projectId of this.projects.keys()) {
        this.connection.send({ type: "watch", project_id: projectId });
      }
      for (const { feed } of this.feeds.values()) {
        feed.isResubscribing = false;
        if (feed.cursor !== null) this.subscribe(feed);
        else if (feed.history === "error") {
          feed.history = "idle";
          void feed.load();
        }
      }
      // What changed in the meantime (runs that began or ended) was not told.
      if (this.wasConnected) for (const listeners of this.projects.values()) for (const listener of listeners) listener({ type: "all" });
      this.wasConnected = true;
      void this.introduce();
    } else {
      for (const { feed } of this.feeds.values()) feed.isLive = false;
      if (state === "disconnected" && why === "sign-in") this.isSignedOut = true;
      this.patience = setTimeout(() => {
        this.isSilent = true;
        this.signal.notify();
        // a refused handshake does not say why: a session that has ended answers 401 here, and that is told by isSignedOut
        void this.api.session().catch(() => {});
      }, PATIENCE_MS);
    }
    this.signal.notify();
  }

  /** Mark a run as read up to `seq`, and tell the others. @param {string} runId @param {number} seq */
  markRead(runId, seq) {
    if (this.readMarks.set(runId, seq)) {
      this.connection.send({ type: "read", run_id: runId, seq });
      this.signal.notify();
    }
  }

  async signOut() {
    await this.api.signOut();
    this.outbox.clear();
    this.drafts.clear();
    this.readMarks.clear();
    this.connection.close();
  }
}

/** @type {boolean} */
SharedClient.prototype.wasConnected = false;
