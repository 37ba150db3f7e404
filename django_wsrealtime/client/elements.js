/** The custom elements behind `{% live_connection %}` and `{% live_presence %}`. */

/**
 * @param {string} name
 * @param {(node: HTMLElement) => () => void} start returns what ends it
 */
const define = (name, start) => {
  customElements.define(
    name,
    class extends HTMLElement {
      /** @type {(() => void) | undefined} */
      #stop;

      connectedCallback() {
        this.#stop ??= start(this);
      }

      disconnectedCallback() {
        // One microtask later, so that moving the element keeps what it has.
        queueMicrotask(() => {
          if (this.isConnected) return;
          this.#stop?.();
          this.#stop = undefined;
        });
      }
    },
  );
};

/** @param {import("./realtime.js").Realtime} realtime */
export const defineElements = (realtime) => {
  // Says how the connection is; the words for each state are its `data-<state>` attributes.
  define("wsrealtime-connection", (node) => {
    const show = () => {
      const { state } = realtime;
      node.dataset.state = state;
      node.textContent = node.dataset[state] ?? state;
    };
    show();
    return realtime.on("state", show);
  });

  // Lists the members of the topic in its `topic` attribute.
  define("wsrealtime-presence", (node) => {
    const [topic, grant, since] = ["topic", "grant", "since"].map(
      (name) => node.getAttribute(name) ?? undefined,
    );
    const subscription = realtime.subscribe(/** @type {string} */ (topic), { grant, since }, node);
    const { presence } = subscription;
    const show = () => {
      const list = document.createElement("ul");
      for (const { id, name } of presence.members) {
        const item = document.createElement("li");
        item.textContent = name ?? id;
        list.append(item);
      }
      /** @type {any} */ (node.dataset).count = presence.count;
      node.replaceChildren(list);
    };
    show();
    const undo = presence.on("change", show);
    return () => {
      undo();
      subscription.unsubscribe(node);
    };
  });
};
