/** Shows who else follows a topic. */

const SHADES = 6;

/** The same colour for the same name, on every page and in the templates. @param {string} name */
export const shadeOf = (name) =>
  String([...name].reduce((total, letter) => total + letter.codePointAt(0), 0) % SHADES);

/** @param {string} name */
export function face(name) {
  const circle = document.createElement("span");
  circle.className = "face";
  circle.dataset.shade = shadeOf(name);
  circle.textContent = name.slice(0, 1).toUpperCase();
  circle.ariaHidden = "true";
  return circle;
}

/** Keeps `list` equal to the members of a subscription, one entry for each person. */
export function members(subscription, list) {
  const show = () => {
    const names = new Set(subscription.presence.members.map(nameOf));
    list.replaceChildren(
      ...[...names].sort().map((name) => {
        const item = document.createElement("li");
        const label = document.createElement("span");
        label.className = "name";
        label.textContent = name;
        item.append(face(name), label);
        item.dataset.member = name;
        return item;
      }),
    );
  };
  subscription.presence.on("change", show);
  show();
}

/** The name in a member or in the `from` of an event. */
export const nameOf = (who) => who?.name ?? "someone";
