/** The custom elements behind `{% live_connection %}` and `{% live_presence %}`. */

/**
 * @param {import("./realtime.js").Realtime} realtime
 */
export function define(realtime) {
  if (!globalThis.HTMLElement || customElements.get("wsrealtime-connection")) return;

  /** Says how the connection is; the words for each state are its `data-<state>` attributes. */
  class ConnectionElement extends HTMLElement {
    #undo = () => {};

    connectedCallback() {
      const show = () => {
        const { state } = realtime;
        this.dataset.state = state;
        this.textContent = this.dataset[state] ?? state;
      };
      this.#undo = realtime.on("state", show);
      show();
    }

    disconnectedCallback() {
      this.#undo();
    }
  }

  /** Lists the members of the topic in its `topic` attribute. */
  class PresenceElement extends HTMLElement {
    #undo = /** @type {(() => void) | undefined} */ (undefined);

    connectedCallback() {
      if (this.#undo) return;
      const topic = this.getAttribute("topic") ?? "";
      const grant = this.getAttribute("grant") ?? undefined;
      const since = this.getAttribute("since") ?? undefined;
      const subscription = realtime.subscribe(topic, { grant, since }, this);
      const show = () => {
        const list = document.createElement("ul");
        for (const { id, name } of subscription.presence.members) {
          const item = document.createElement("li");
          item.dataset.id = id;
          item.textContent = name ?? id;
          list.append(item);
        }
        this.dataset.count = `${subscription.presence.count}`;
        this.replaceChildren(list);
      };
      const undo = subscription.presence.on("change", show);
      show();
      this.#undo = () => {
        undo();
        realtime.release(subscription, this);
      };
    }

    disconnectedCallback() {
      // One microtask later, so that moving the element keeps its subscription.
      queueMicrotask(() => {
        if (this.isConnected) return;
        this.#undo?.();
        this.#undo = undefined;
      });
    }
  }

  customElements.define("wsrealtime-connection", ConnectionElement);
  customElements.define("wsrealtime-presence", PresenceElement);
}
