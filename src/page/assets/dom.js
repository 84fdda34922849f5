// Making and changing elements with as little work as possible: a value that did not change is not written.
// Text always goes in as text; there is no way here to turn a string into markup.

/** An element: h('div.row', { title }, child, 'text'). Classes follow dots; properties are set as attributes. */
export function h(tag, properties, ...children) {
  const [kind, ...classes] = tag.split('.');
  const element = document.createElement(kind);
  if (classes.length > 0) element.className = classes.join(' ');
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (typeof value === 'function') element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  for (const child of children) if (child !== null && child !== undefined) element.append(child);
  return element;
}

const shown = new WeakMap();

function changed(element, key, value) {
  let values = shown.get(element);
  if (!values) shown.set(element, (values = new Map()));
  if (values.get(key) === value) return false;
  values.set(key, value);
  return true;
}

export function text(element, value) {
  if (changed(element, 'text', value)) element.textContent = value;
}

export function attribute(element, name, value) {
  if (!changed(element, `@${name}`, value)) return;
  if (value === null || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? '' : value);
}

export function style(element, name, value) {
  if (changed(element, `$${name}`, value)) element.style.setProperty(name, value);
}

export function hidden(element, value) {
  if (changed(element, 'hidden', value)) element.hidden = value;
}

/**
 * Makes `parent` show one child per item, in order, reusing children: by position, so that a moving list rewrites text
 * instead of building elements.
 */
export function rows(parent, items, make, fill) {
  while (parent.children.length < items.length) parent.append(make());
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  for (let i = 0; i < items.length; i += 1) fill(parent.children[i], items[i], i);
}
