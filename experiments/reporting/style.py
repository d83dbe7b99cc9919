"""How the page looks: one style sheet, light and dark, wide and narrow."""

_LIGHT = {
  'page': '#fefefe',
  'ink': '#1b2430',
  'muted': '#5d6774',
  'grid': '#e4e7ec',
  'shade': '#f5f7f9',
  'link': '#0b5cad',
  'c1': '#0072b2',
  'c2': '#d55e00',
  'c3': '#009e73',
  'c4': '#b3578c',
  'c5': '#b97c00',
  'c6': '#3a9bd1',
  'right-right': '#9dbfd6',
  'wrong-right': '#0b8a62',
  'right-wrong': '#c8451b',
  'wrong-wrong': '#c5cbd3',
  'gone': '#fbdcd2',
  'come': '#cdeede',
}
_DARK = {
  'page': '#12171e',
  'ink': '#e6eaf0',
  'muted': '#9aa5b3',
  'grid': '#2b333e',
  'shade': '#1a212a',
  'link': '#7ab8f0',
  'c1': '#56b4e9',
  'c2': '#f0904a',
  'c3': '#35c79a',
  'c4': '#e39cc4',
  'c5': '#e9b64a',
  'c6': '#8ccdf2',
  'right-right': '#3f6480',
  'wrong-right': '#158f68',
  'right-wrong': '#d05a33',
  'wrong-wrong': '#3b4552',
  'gone': '#5a2a1c',
  'come': '#14513c',
}
_RULES = """
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
header, main, footer { max-width: 74rem; margin: 0 auto;
  padding: 0 clamp(1rem, 4vw, 2.5rem); }
header { padding-top: clamp(1.5rem, 5vw, 3.5rem); }
h1 { font-size: clamp(1.6rem, 4vw, 2.4rem); line-height: 1.15; margin: 0;
  letter-spacing: -0.02em; }
h2 { font-size: 1.35rem; margin: 0 0 .4rem; letter-spacing: -0.01em; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0 1rem; max-width: 62ch; }
a { color: var(--link); }
.note, figcaption, footer, .lead { color: var(--muted); }
.lead { font-size: 1.05rem; margin-top: .6rem; max-width: none; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1.2rem 0 0;
  font-size: .92rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { padding: 2rem 0 .6rem; border-top: 1px solid var(--grid);
  margin-top: 2rem; }
.tiles { display: grid; gap: .8rem; margin: 1.6rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr)); }
.tile { background: var(--shade); border-radius: .6rem; padding: .9rem 1.1rem; }
.tile b { display: block; font-size: 1.9rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; letter-spacing: -0.02em; }
.tile span { color: var(--muted); font-size: .9rem; }
.scroll { overflow-x: auto; margin: 0 0 1.2rem; }
table { border-collapse: collapse; font-size: .93rem; min-width: 60%;
  font-variant-numeric: tabular-nums; }
.caption { color: var(--muted); font-size: .93rem; margin: 1rem 0 .3rem; }
th, td { padding: .4rem .8rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { font-weight: 600; }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom;
  white-space: normal; max-width: 9rem; }
th:first-child, td.text { text-align: left; }
tbody th { position: sticky; left: 0; background: var(--page);
  white-space: normal; min-width: 8rem; font-weight: 500; }
td small, th small { display: block; color: var(--muted); font-size: .8em; }
.gallery { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
figure { margin: 0 0 1.2rem; max-width: 40rem; }
figure.wide { max-width: 56rem; }
.if-narrow { display: none; }
figure svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; }
figcaption { font-size: .9rem; margin-top: .3rem; max-width: 62ch; }
details { margin: .5rem 0 1rem; }
summary { cursor: pointer; color: var(--link); }
.episode { border: 1px solid var(--grid); border-radius: .6rem;
  margin: 0 0 1rem; overflow: hidden; }
.episode > h3 { margin: 0; padding: .55rem 1rem; background: var(--shade);
  font-size: .92rem; }
.episode dl { margin: 0; padding: .6rem 1rem; display: grid; gap: .3rem 1rem;
  grid-template-columns: minmax(5.5rem, auto) 1fr; }
.episode dt { color: var(--muted); font-size: .88rem; }
.episode dd { margin: 0; min-width: 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .93rem;
  font-family: ui-monospace, 'SF Mono', Menlo, Consolas, monospace; }
@media (max-width: 44rem) {
  .if-wide { display: none; }
  .if-narrow { display: block; }
}
@media (max-width: 34rem) {
  .episode dl { grid-template-columns: 1fr; gap: 0; }
  .episode dd { margin-bottom: .6rem; }
  th, td { padding: .35rem .5rem; }
}
del { background: var(--gone); text-decoration: none; border-radius: .2rem; }
ins { background: var(--come); text-decoration: none; border-radius: .2rem; }
.badge { font: 500 .78rem/1.6 system-ui, sans-serif; border-radius: 1rem;
  padding: .05rem .6rem; margin-left: .6rem; color: #fff; white-space: nowrap;
  background: var(--right-wrong); }
.badge.correct { background: var(--wrong-right); }
footer { padding-top: 2rem; padding-bottom: 3rem; font-size: .88rem; }
@media print { nav { display: none; } section { break-inside: avoid-page; } }
"""


def sheet() -> str:
  """The style sheet; nothing in it is loaded from elsewhere."""
  return (
    f':root {{ {_properties(_LIGHT)} }}\n'
    f'@media (prefers-color-scheme: dark) {{ :root {{ {_properties(_DARK)} }} '
    '}' + _RULES
  )


def _properties(colours: dict[str, str]) -> str:
  return ' '.join(f'--{name}: {colour};' for name, colour in colours.items())
