/** A chat room: what is said, who is here, who is typing, and cheers from member to member. */

import { face, members, nameOf } from "../front/people.js";
import { say } from "../front/status.js";

const TYPING_SHOWN = 3000; // ms after the last sign of typing
const TYPING_SENT = 1500; // ms between two signs
const MOST_SHOWN = 200; // messages on the page
const MOST_CHEERS = 12; // flying at once

const rt = window.realtime;
const page = document.querySelector("[data-room-topic]");
const me = page.dataset.me;
const list = page.querySelector("[data-messages]");
const blank = page.querySelector("template");
const hour = new Intl.DateTimeFormat("en", { timeStyle: "short", hourCycle: "h23" });
const room = rt.subscribe(page.dataset.roomTopic);

/* ---------------------------------------------------------------- messages */

const find = (key) => list.querySelector(`[data-key="${CSS.escape(key)}"]`);

function toEnd() {
  list.scrollTop = list.scrollHeight;
}

/** Shows one message; a message that the page shows already is only brought up to date. */
function show({ key, author, text, time }, { waiting = false } = {}) {
  let line = find(key);
  if (!line) {
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    line = blank.content.firstElementChild.cloneNode(true);
    line.dataset.key = key;
    line.classList.toggle("mine", author === me);
    line.querySelector(".face").replaceWith(face(author));
    line.querySelector('[data-show="author"]').textContent = author;
    list.append(line);
    while (list.children.length > MOST_SHOWN) list.firstElementChild.remove();
    if (atEnd || author === me) requestAnimationFrame(toEnd);
  }
  line.querySelector('[data-show="text"]').textContent = text;
  line.querySelector("time").dateTime = time;
  line.querySelector("time").textContent = hour.format(new Date(time));
  line.classList.toggle("waiting", waiting);
  stopsTyping(author);
}

/** The server's newest messages replace what the page shows. */
function replace({ messages }) {
  list.replaceChildren();
  messages.forEach((message) => show(message));
}

room.on("message", (message) => show(message));
room.on("snapshot", ({ messages }) => messages.forEach((message) => show(message)));
room.on("reset", (reset) => reset?.snapshot && replace(reset.snapshot));

const form = page.querySelector("[data-say]");
form.addEventListener("submit", async (event) => {
  if (rt.state === "closed") return; // the form posts as it would without a script
  event.preventDefault();
  const text = form.elements.text.value.trim();
  if (!text) return;
  const key = crypto.randomUUID();
  form.reset();
  show({ key, author: me, text, time: new Date().toISOString() }, { waiting: true });
  try {
    await room.call("say", { text }, { key }); // with a key, a lost connection cannot say it twice
  } catch (error) {
    find(key)?.remove();
    form.elements.text.value ||= text;
    say(error.message, { urgent: true });
  }
});

/* ------------------------------------------------------------------ typing */

const typing = new Map(); // name -> timer
const sign = page.querySelector("[data-typing]");
let signed = 0;

function showTyping() {
  const names = [...typing.keys()].sort();
  sign.textContent = names.length ? `${names.join(" and ")} ${names.length > 1 ? "are" : "is"} typing …` : "";
}

function stopsTyping(name) {
  clearTimeout(typing.get(name));
  if (typing.delete(name)) showTyping();
}

room.on("typing", (_, meta) => {
  const name = nameOf(meta.from);
  clearTimeout(typing.get(name));
  typing.set(name, setTimeout(() => stopsTyping(name), TYPING_SHOWN));
  showTyping();
});

form.elements.text.addEventListener("input", () => {
  if (Date.now() - signed < TYPING_SENT || !form.elements.text.value) return;
  signed = Date.now();
  room.whisper("typing", {});
});

/* ------------------------------------------------------------------ cheers */

const cheers = page.querySelector("[data-cheers]");

function fly(name) {
  const icon = cheers.querySelector(`[data-cheer="${CSS.escape(name)}"] svg`);
  if (!icon || page.querySelectorAll("svg.cheer").length >= MOST_CHEERS) return;
  const flying = icon.cloneNode(true);
  flying.classList.add("cheer");
  flying.dataset.cheer = name;
  flying.style.setProperty("--x", `${15 + Math.random() * 70}%`);
  flying.addEventListener("animationend", () => flying.remove());
  page.querySelector(".talk").append(flying);
}

room.on("cheer", ({ name }) => fly(name));
cheers.addEventListener("click", async (event) => {
  const name = event.target.closest("[data-cheer]")?.dataset.cheer;
  if (!name) return;
  try {
    await room.publish("cheer", { name });
  } catch (error) {
    say(error.message, { urgent: true });
  }
});
cheers.hidden = false;

/* ------------------------------------------------------------- first paint */

members(room, page.querySelector("[data-members]"));
for (const line of list.children) {
  const stamp = line.querySelector("time");
  stamp.textContent = hour.format(new Date(stamp.dateTime));
}
toEnd();
