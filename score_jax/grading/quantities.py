r"""Written quantities: numbers, percent, currency, units, times of day.

Numbers are exact fractions; a decimal carries its number of digits, because
0.333333 is not 1/3.
"""

import dataclasses
import fractions
import re


@dataclasses.dataclass(frozen=True)
class Quantity:
  """A value with its unit or percent sign.

  Attributes:
    value: the expression.
    unit: in one spelling, '' where there is none.
    percent: whether a percent sign stands behind it.
  """

  value: str
  unit: str = ''
  percent: bool = False


_UNIT_WORDS = {
  'cm': 'centimeter', 'mm': 'millimeter', 'km': 'kilometer', 'm': 'meter',
  'in': 'inch', 'ft': 'foot', 'feet': 'foot', 'inches': 'inch', 'yd': 'yard',
  'mi': 'mile', 'kg': 'kilogram', 'g': 'gram', 'mg': 'milligram',
  'lb': 'pound', 'lbs': 'pound', 'oz': 'ounce', 's': 'second', 'sec': 'second',
  'min': 'minute', 'h': 'hour', 'hr': 'hour', 'hrs': 'hour', 'mph': 'mph',
  'ml': 'milliliter', 'l': 'liter', 'usd': 'dollar', 'deg': 'degree',
  'rad': 'radian', 'centimetre': 'centimeter', 'metre': 'meter',
  'kilometre': 'kilometer', 'litre': 'liter', 'euro': 'euro', 'cent': 'cent',
}  # fmt: skip
_NO_UNIT = re.compile(
  r'\b(?:and|or|not|no|than|least|most|more|less|if|for|where|when|but|sin|cos'
  r'|tan|log|ln|exp|sqrt|mod|is|are|was|with|to|from|positive|negative|base'
  r'|undefined|times|divided|plus|minus|dozen|hundred|thousand|million|billion'
  r'|trillion|squared|cubed|factorial|half|quarter|third|pi)\b'
)
# No list is written with these between two digits.
_THIN_SPACE = r'(?:\\[,:;]\s*|\\thinspace(?![A-Za-z])\s*|[\u2009\u202f])'
_GROUP_MARK = rf'(?:{_THIN_SPACE}|,?\\!\s*|\{{,\}})'
_MARKED_GROUPS = re.compile(
  rf'(?<![\w.,^])[1-9][0-9]{{0,2}}(?:{_GROUP_MARK}[0-9]{{3}})+'
  r'(?![0-9]|,[0-9]{3}(?![0-9]))'
)
_GROUPS_OF_PLACES = re.compile(
  rf'(?<=[0-9])\.[0-9]{{3}}(?:{_THIN_SPACE}[0-9]{{3}})+(?![0-9])'
)
# After a bracket, commas are a tuple's.
_COMMA_GROUPS = re.compile(
  r'(?<![\w.,(\[])(?<!\\\{)[1-9][0-9]{0,2}(?:,[0-9]{3})+'
  r'(?![0-9]|,[0-9])'
)
_INDIAN_GROUPS = re.compile(
  r'(?<![\w.,^(\[])(?<!\\\{)[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?![0-9]|,[0-9])'
)
_POWER = r'(?:\s*\^\s*\{?\s*([23])\s*\}?)?\s*\.?'
_TEXT_UNIT = re.compile(r'(.+?)\s*\\text\{([^{}]*)\}' + _POWER, re.DOTALL)
_WORD_UNIT = re.compile(
  r'(.*[0-9})\]])(\s*)([A-Za-z][A-Za-z. /]*)' + _POWER, re.DOTALL
)


def join_digits(text: str) -> str:
  r"""`text` with the digits of each number together.

  Digits stand in threes, apart by thin spaces (`\,`, `\;`, U+2009, U+202F),
  `{,}` or commas: `1{,}234`, `1,234`. The Indian `1,00,000` is a number where
  a group has a leading zero, which no number of a list has: `12,34,567` is a
  list. Ordinary blanks join nothing, and neither do commas in a tuple.
  """
  text = _GROUPS_OF_PLACES.sub(_only_digits, text)
  text = _MARKED_GROUPS.sub(_marked_number, text)
  text = _COMMA_GROUPS.sub(_only_digits, text)
  return _INDIAN_GROUPS.sub(
    lambda match: _only_digits(match) if ',0' in match[0] else match[0], text
  )


def _marked_number(match: re.Match) -> str:
  # Before a fraction, a wide space may be a mixed number's.
  fraction = match.string[match.end() :].lstrip().startswith(('/', '\\frac'))
  wide = re.search(r'\\[:;]|[\u2009\u202f]', match[0])
  return match[0] if fraction and wide else _only_digits(match)


def _only_digits(match: re.Match) -> str:
  return re.sub('[^0-9.]', '', match[0])


def quantity(text: str) -> Quantity:
  r"""Splits currency, percent, degrees and a unit from a value.

  A unit is what stands in `\text{}` behind the value, a known abbreviation, or
  words of three letters and more after a blank; words that change the value
  ('or', 'more than', 'million') are no unit.
  """
  text = text.strip()
  currency = re.match(r'(-?)\s*(\\\$|\$|£|€|\\pounds)\s*(?=[0-9.\\-])', text)
  if currency:
    kind = {'£': 'pound', '\\pounds': 'pound', '€': 'euro'}
    unit = kind.get(currency[2], 'dollar')
    rest = quantity(currency[1] + text[currency.end() :])
    return dataclasses.replace(rest, unit=rest.unit or unit)
  percent = re.fullmatch(
    r'(.*[0-9})])\s*(?:\\?%|(?:\\text\{)?\s*(?:percent|pct|per cent)\.?\}?)',
    text,
    re.DOTALL,
  )
  if percent:
    return Quantity(percent[1].strip(), percent=True)
  if text.endswith('°'):
    return Quantity(text[:-1].strip(), unit='degree')
  match = _TEXT_UNIT.fullmatch(text)
  if match:
    unit = _unit(match[2], match[3], apart=True, known=False)
  else:
    match = _WORD_UNIT.fullmatch(text)
    unit = match and _unit(match[3], match[4], apart=bool(match[2]), known=True)
  return Quantity(match[1].strip(), unit) if unit else Quantity(text)


def _unit(phrase: str, power: str | None, *, apart: bool, known: bool) -> str:
  """A unit in one spelling, '' where the words are no unit.

  With `known`, the words are part of the formula itself, where letters may be
  variables: they have to be known units, or words of three letters (four where
  they touch the number).
  """
  words = re.findall(r'[a-z]+', phrase.lower())
  if not words or _NO_UNIT.search(phrase.lower()):
    return ''
  units = all(word in _UNIT_WORDS and len(word) > 1 for word in words)
  if known and not units and min(map(len, words)) < (3 if apart else 4):
    return ''
  power = power or ''
  for spelled, digit in (('square', '2'), ('sq', '2'), ('cubic', '3')):
    if spelled in words:
      words.remove(spelled)
      power = digit
  names = [_UNIT_WORDS.get(w, _UNIT_WORDS.get(w.rstrip('s'), w)) for w in words]
  return ' '.join(name.rstrip('s') for name in names) + power


def time_of_day(text: str) -> tuple[int, bool | None] | None:
  """(seconds, after noon) of `8:34 p.m.` or `20:34`; None if it is no time.

  Seconds count from midnight or, where neither a.m. nor p.m. tells which half
  of the day a 12-hour time is in, from the last 12 o'clock with None. Three
  numbers without a.m. or p.m. are a time if the last is 00, else a ratio.
  """
  match = re.fullmatch(
    r'([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))?'
    r'\s*(?:\\text\{)?\s*([AaPp])?(?:\.?\s*[Mm]\.?)?\}?',
    text.replace('\\text{:}', ':').strip(),
  )
  if not match or int(match[1]) > 24:
    return None
  hour = int(match[1])
  rest = 60 * int(match[2]) + int(match[3] or 0)
  if match[4]:
    late = match[4] in 'Pp'
    return (hour % 12 + 12 * late) * 3600 + rest, late
  if match[3] not in (None, '00'):
    return None
  if match[1].startswith('0') or hour > 12 or hour == 0:
    return hour * 3600 + rest, hour >= 12
  return hour % 12 * 3600 + rest, None


def exact_number(text: str) -> tuple[fractions.Fraction, int | None] | None:
  r"""(value, significant digits) of a written number; digits None if exact.

  Integers, decimals, `a/b`, `\frac{a}{b}`, mixed numbers and powers of ten;
  only decimals have digits.
  """
  number = re.fullmatch(
    r'\s*([-+]?)\s*([0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})'
    r'(?:\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*\{?\s*(-?[0-9]{1,3})\s*\}?)?\s*',
    text,
  )
  if number:
    value = fractions.Fraction(number[2].rstrip('.') or '0')
    value *= fractions.Fraction(10) ** int(number[3] or 0)
    digits = None
    if '.' in number[2]:
      digits = len(number[2].replace('.', '').lstrip('0'))
    return (-value if number[1] == '-' else value), digits
  recurring = re.fullmatch(
    r'\s*(-?)([0-9]{0,30})\.([0-9]{0,30})\\overline\{\s*([0-9]{1,30})\s*\}\s*',
    text,
  )
  if recurring:
    sign, whole, fixed, cycle = recurring.groups()
    value = fractions.Fraction(int(whole + fixed or '0'))
    value += fractions.Fraction(int(cycle), 10 ** len(cycle) - 1)
    return value / 10 ** len(fixed) * (-1 if sign else 1), None
  ratio = re.fullmatch(
    r'\s*([-+]?)\s*(?:([0-9]{1,30})(?:\s*(?=\\frac)|\s+(?=[0-9])))?'
    r'(?:\\frac\s*\{\s*(-?[0-9]{1,400})\s*\}\s*\{\s*(-?[0-9]{1,400})\s*\}'
    r'|([0-9]{1,400})\s*/\s*([0-9]{1,400}))\s*',
    text,
  )
  if not ratio:
    return None
  above, below = int(ratio[3] or ratio[5]), int(ratio[4] or ratio[6])
  if below == 0 or (ratio[2] and not 0 <= above < below):
    return None
  value = fractions.Fraction(above, below) + int(ratio[2] or 0)
  return (-value if ratio[1] == '-' else value), None
