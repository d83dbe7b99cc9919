"""HTML from Python, escaped unless it is known to be HTML."""

import html
from typing import Any

_VOID = frozenset({'br', 'img', 'meta', 'col'})


class Html(str):
  """Text that is HTML already; every other text gets escaped."""

  __slots__ = ()


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
  """`<name attributes>children</name>`.

  Args:
    name: of the element.
    *children: Html as it is, everything else as escaped text; None is left out.
    **attributes: `class_` for class, `aria_label` for aria-label; True for one
      without a value; None or False to leave one out.
  """
  parts = [name]
  for key, value in attributes.items():
    key = key.rstrip('_').replace('_', '-')
    if value is True:
      parts.append(key)
    elif value is not None and value is not False:
      parts.append(f'{key}="{html.escape(str(value))}"')
  opening = f'<{" ".join(parts)}>'
  if name in _VOID:
    return Html(opening)
  return Html(f'{opening}{join(children)}</{name}>')


def join(children: Any) -> Html:
  """Several pieces one after the other, each escaped unless it is Html."""
  return Html(
    ''.join(
      child if isinstance(child, Html) else html.escape(str(child))
      for child in children
      if child is not None
    )
  )


def table(
  headings: list[Any], rows: list[list[Any]], *, caption: Any = None
) -> Html:
  """A table whose first column names the rows; it scrolls where it is wide."""
  head = element(
    'tr', *[element('th', heading, scope='col') for heading in headings]
  )
  body = [
    element(
      'tr',
      element('th', row[0], scope='row'),
      *[element('td', cell) for cell in row[1:]],
    )
    for row in rows
  ]
  grid = element('table', element('thead', head), element('tbody', *body))
  # Outside of what scrolls, so that it can be read in a narrow window.
  above = element('p', caption, class_='caption') if caption else None
  return join(
    part
    for part in (above, element('div', grid, class_='scroll', tabindex=0))
    if part
  )


def section(title: str, *children: Any, note: Any = None) -> Html:
  """A part of the page under a heading, perhaps with a sentence below it."""
  anchor = ''.join(c if c.isalnum() else '-' for c in title.lower())
  return element(
    'section',
    element('h2', title),
    element('p', note, class_='note') if note else None,
    *children,
    id=anchor,
  )


def gallery(*figures: Html) -> Html:
  """Figures side by side where there is room, else one below the other."""
  return element('div', *figures, class_='gallery')


def figure(picture: Html, caption: Any, *, is_wide: bool = False) -> Html:
  """A picture with a caption below it."""
  return element(
    'figure',
    picture,
    element('figcaption', caption),
    class_='wide' if is_wide else None,
  )
