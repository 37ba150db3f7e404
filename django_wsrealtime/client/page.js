/** The page's own instance: settings from the script tag, state and events in the document. */

import { defineElements } from "./elements.js";
import { createRealtime } from "./realtime.js";

/** @returns {import("./realtime.js").Realtime} the same one however often this is loaded */
export const start = () => {
  const page = /** @type {any} */ (window);
  // An element with the id "realtime" would be found under that name too.
  if (page.realtime?.subscribe) return page.realtime;
  const tag = /** @type {HTMLElement | null} */ (document.querySelector("[data-wsrealtime]"));
  const realtime = (page.realtime = createRealtime(tag?.dataset));
  realtime.on("*", (name, detail) => {
    if (name === "state") document.documentElement.dataset.realtime = detail;
    document.dispatchEvent(new CustomEvent(`realtime:${name}`, { detail }));
  });
  defineElements(realtime);
  // The first subscription opens it, so that `hello` carries what the page follows; else this does.
  if (tag) page.addEventListener("load", realtime.open);
  return realtime;
};
