//! Regular expressions: PostgreSQL's, on the regex crate's engines.
//!
//! The crate finds the leftmost match that the pattern's order prefers, POSIX wants the longest of the
//! leftmost ones. Both begin at the same place; where the longest ends is asked of an automaton that
//! goes on as long as any way through the pattern is open. With that known, the groups are those of
//! the way that the crate prefers among those that end there: PostgreSQL makes earlier groups the
//! longer ones where a pattern leaves a choice. A pattern with a non-greedy quantifier is left to the
//! crate altogether. Letters are folded as in the "C" locale: ASCII's only.

use std::cell::RefCell;
use std::iter::Peekable;
use std::ops::Range;
use std::rc::Rc;
use std::str::Chars;

use regex::{Regex, RegexBuilder};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

use crate::{Result, SqlError, SqlState};

/// Limit of a compiled pattern.
const MOST_BYTES: usize = 1 << 22;

/// A compiled pattern.
pub struct Pattern {
    /// Finds where a match begins.
    regex: Regex,
    /// Finds where the longest ends; absent where the crate's end is the one.
    longest: Option<(DFA, RefCell<Cache>)>,
    /// The pattern up to the end of the text, for groups of a match whose end is known.
    to_end: Option<Regex>,
}

/// Places of a match's groups, of the whole match first.
pub type Groups = Vec<Option<Range<usize>>>;

thread_local! {
    /// The pattern used last on this thread, compiled: an expression usually repeats one.
    static LAST: RefCell<Option<(String, String, Rc<Pattern>)>> = const { RefCell::new(None) };
}

/// A pattern with its flags, compiled. `g` says nothing here.
pub fn pattern(text: &str, flags: &str) -> Result<Rc<Pattern>> {
    LAST.with_borrow_mut(|last| {
        if let Some((pattern, with, compiled)) = last
            && pattern == text
            && with == flags
        {
            return Ok(compiled.clone());
        }
        let compiled = Rc::new(Pattern::compile(text, flags)?);
        *last = Some((text.to_owned(), flags.to_owned(), compiled.clone()));
        Ok(compiled)
    })
}

impl Pattern {
    fn compile(pattern: &str, flags: &str) -> Result<Pattern> {
        let mut options = Options::default();
        for flag in flags.chars().filter(|flag| *flag != 'g') {
            options.set(flag).ok_or_else(|| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid regular expression option: \"{flag}\""),
                )
            })?;
        }
        let (pattern, literal) = match (pattern.strip_prefix("***="), pattern.strip_prefix("***:")) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => (pattern, false),
        };
        let mut translation = Translation { options, lazy: false, out: String::new() };
        if literal {
            pattern.chars().for_each(|c| translation.literal(c));
        } else {
            translation.pattern(pattern)?;
        }
        let Translation { options, lazy, out } = translation;
        let invalid = || invalid(fault(pattern));
        let build = |text: &str| {
            RegexBuilder::new(text)
                .multi_line(options.lines)
                .dot_matches_new_line(!options.lines)
                .size_limit(MOST_BYTES)
                .build()
                .map_err(|_| invalid())
        };
        let regex = build(&out)?;
        let mut longest = None;
        let mut to_end = None;
        if !lazy && !literal {
            let syntax = syntax::Config::new().multi_line(options.lines).dot_matches_new_line(!options.lines);
            let config = DFA::config().match_kind(MatchKind::All).skip_cache_capacity_check(true);
            let dfa = DFA::builder().configure(config).syntax(syntax).build(&out).map_err(|_| invalid())?;
            let cache = RefCell::new(dfa.create_cache());
            longest = Some((dfa, cache));
            if regex.captures_len() > 1 {
                to_end = Some(build(&format!("(?:{out})\\z"))?);
            }
        }
        Ok(Pattern { regex, longest, to_end })
    }

    /// Whether it matches anywhere in a text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The first match from `at` on.
    pub fn find(&self, text: &str, at: usize) -> Option<Range<usize>> {
        let first = self.regex.find_at(text, at)?;
        let Some((dfa, cache)) = &self.longest else { return Some(first.range()) };
        let input = Input::new(text).span(first.start()..text.len()).anchored(Anchored::Yes);
        // It fails only for bytes and limits that are not configured.
        let longest = dfa.try_search_fwd(&mut cache.borrow_mut(), &input).ok().flatten();
        Some(first.start()..longest.map_or(first.end(), |longest| longest.offset()))
    }

    /// The first match from `at` on, and its groups.
    pub fn groups(&self, text: &str, at: usize) -> Option<Groups> {
        let ranges = |captures: &regex::Captures<'_>| {
            captures.iter().map(|group| group.map(|group| group.range())).collect::<Groups>()
        };
        if self.longest.is_none() {
            return self.regex.captures_at(text, at).as_ref().map(ranges);
        }
        let whole = self.find(text, at)?;
        let Some(to_end) = &self.to_end else { return Some(vec![Some(whole)]) };
        let groups = to_end.captures_at(&text[..whole.end], whole.start).as_ref().map(ranges);
        // What follows the match may matter to it; then only the match itself is known.
        let unknown = || std::iter::once(Some(whole.clone())).chain((1..to_end.captures_len()).map(|_| None));
        Some(groups.unwrap_or_else(|| unknown().collect()))
    }

    /// `regexp_replace`, of the first match or of all.
    pub fn replace(&self, text: &str, with: &str, all: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let (mut from, mut at) = (0, 0);
        while let Some(groups) = self.groups(text, at) {
            let whole = groups[0].clone().expect("a match has a place");
            out.push_str(&text[from..whole.start]);
            append_replacement(&mut out, text, with, &groups);
            from = whole.end;
            if !all {
                break;
            }
            match behind(text, &whole) {
                Some(next) => at = next,
                None => break,
            }
        }
        out.push_str(&text[from..]);
        out
    }

    /// `regexp_split_to_array`: what stands between the matches. Empty ones at the ends and just
    /// behind another do not count.
    pub fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = Vec::new();
        let (mut from, mut at, mut last_end) = (0, 0, 0);
        while let Some(found) = self.find(text, at) {
            if found.start < text.len() && found.end > last_end {
                pieces.push(&text[from..found.start]);
                from = found.end;
            }
            last_end = found.end;
            match behind(text, &found) {
                Some(next) => at = next,
                None => break,
            }
        }
        pieces.push(&text[from..]);
        pieces
    }
}

/// Where the search for the next match begins: an empty one is passed by a character.
fn behind(text: &str, found: &Range<usize>) -> Option<usize> {
    if found.is_empty() {
        text[found.end..].chars().next().map(|c| found.end + c.len_utf8())
    } else {
        Some(found.end)
    }
}

/// A replacement with `\1`, `\&` and `\\` filled in; a backslash before anything else is itself.
fn append_replacement(out: &mut String, text: &str, with: &str, groups: &Groups) {
    let mut characters = with.chars().peekable();
    while let Some(c) = characters.next() {
        let group = match (c, characters.peek()) {
            ('\\', Some('&')) => Some(0),
            ('\\', Some(digit @ '1'..='9')) => digit.to_digit(10),
            ('\\', Some('\\')) => {
                characters.next();
                None
            }
            _ => None,
        };
        let Some(group) = group else {
            out.push(c);
            continue;
        };
        characters.next();
        if let Some(Some(place)) = groups.get(group as usize) {
            out.push_str(&text[place.clone()]);
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Options {
    /// Letters match in both cases.
    fold: bool,
    /// `^` and `$` match at lines, and what matches any character does not match a line's end.
    lines: bool,
}

impl Options {
    fn set(&mut self, flag: char) -> Option<()> {
        match flag {
            'i' => self.fold = true,
            'c' => self.fold = false,
            'n' | 'm' => self.lines = true,
            's' => self.lines = false,
            't' => {}
            _ => return None,
        }
        Some(())
    }
}

fn invalid(what: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, format!("invalid regular expression: {what}"))
}

/// PostgreSQL's word for what is wrong with a pattern.
fn fault(pattern: &str) -> &'static str {
    let count = |c: char| pattern.matches(c).count();
    if count('(') != count(')') {
        "parentheses () not balanced"
    } else if count('[') > count(']') {
        "brackets [] not balanced"
    } else if pattern.starts_with(['*', '+', '?']) {
        "quantifier operand invalid"
    } else if pattern.ends_with('\\') {
        "invalid escape \\ sequence"
    } else {
        "invalid character range"
    }
}

/// A pattern on its way to the regex crate's syntax. Both share most of it; what PostgreSQL has beyond
/// (back references, look-around) is refused.
struct Translation {
    options: Options,
    /// It has a non-greedy quantifier.
    lazy: bool,
    out: String,
}

/// What follows a backslash.
enum Escaped {
    /// This character.
    Literal(char),
    /// Something that has been translated.
    Done,
}

impl Translation {
    fn pattern(&mut self, pattern: &str) -> Result<()> {
        let mut characters = self.embedded_options(pattern)?.chars().peekable();
        while let Some(c) = characters.next() {
            match c {
                '[' => self.class(&mut characters)?,
                '\\' => match self.escape(&mut characters, false)? {
                    Escaped::Literal(c) => self.literal(c),
                    Escaped::Done => {}
                },
                '(' if characters.next_if_eq(&'?').is_some() => {
                    if let Some('=' | '!' | '<') = characters.peek() {
                        return Err(SqlError::unsupported("look-around in a regular expression"));
                    }
                    self.out.push_str("(?");
                }
                // Without a number it is no quantifier.
                '{' if !characters.peek().is_some_and(char::is_ascii_digit) => self.out.push_str("\\{"),
                '*' | '+' | '?' | '}' => {
                    self.out.push(c);
                    if characters.next_if_eq(&'?').is_some() {
                        self.lazy = true;
                        self.out.push('?');
                    }
                }
                c if c.is_ascii_alphabetic() => self.literal(c),
                c => self.out.push(c),
            }
        }
        Ok(())
    }

    /// Takes `(?i)` and its like from the pattern's beginning.
    fn embedded_options<'a>(&mut self, pattern: &'a str) -> Result<&'a str> {
        let Some((letters, rest)) = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')) else {
            return Ok(pattern);
        };
        if letters.is_empty() || !letters.chars().all(|c| c.is_ascii_alphabetic()) {
            return Ok(pattern);
        }
        for letter in letters.chars() {
            if self.options.set(letter).is_none() {
                return Err(match letter {
                    'b' | 'e' | 'p' | 'q' | 'w' | 'x' => {
                        SqlError::unsupported(format_args!("the option \"{letter}\" in a regular expression"))
                    }
                    _ => invalid("invalid embedded option"),
                });
            }
        }
        Ok(rest)
    }

    fn literal(&mut self, c: char) {
        if self.options.fold && c.is_ascii_alphabetic() {
            self.out.extend(['[', c.to_ascii_lowercase(), c.to_ascii_uppercase(), ']']);
        } else {
            self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
        }
    }

    /// What follows `[`.
    fn class(&mut self, characters: &mut Peekable<Chars<'_>>) -> Result<()> {
        self.out.push('[');
        if characters.next_if_eq(&'^').is_some() {
            self.out.push('^');
            if self.options.lines {
                self.out.push_str("\\n");
            }
        }
        // Letters among the members, as ranges, for the other case; and where a range may begin.
        let mut letters: Vec<(char, char)> = Vec::new();
        let mut first = true;
        let mut begins = None;
        let mut in_range = false;
        while let Some(c) = characters.next() {
            let member = match c {
                ']' if !first => {
                    if self.options.fold {
                        letters.into_iter().for_each(|(from, to)| self.other_case(from, to));
                    }
                    self.out.push(']');
                    return Ok(());
                }
                '[' if characters.peek() == Some(&':') => {
                    self.named_class(characters);
                    None
                }
                '-' if begins.is_some() && characters.peek() != Some(&']') => {
                    self.out.push('-');
                    in_range = true;
                    continue;
                }
                '\\' => match self.escape(characters, true)? {
                    Escaped::Literal(c) => Some(c),
                    Escaped::Done => None,
                },
                c => Some(c),
            };
            first = false;
            if let Some(c) = member {
                if c.is_alphanumeric() {
                    self.out.push(c);
                } else {
                    self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
                }
                letters.push((begins.filter(|_| in_range).unwrap_or(c), c));
            }
            begins = member.filter(|_| !in_range);
            in_range = false;
        }
        // Without an end: the crate says so.
        Ok(())
    }

    /// `[:alpha:]` and its like are the same in both.
    fn named_class(&mut self, characters: &mut Peekable<Chars<'_>>) {
        let mut name = String::from("[");
        for c in characters.by_ref() {
            name.push(c);
            if c == ']' {
                break;
            }
        }
        let fold = self.options.fold && matches!(name.as_str(), "[:upper:]" | "[:lower:]");
        self.out.push_str(if fold { "[:alpha:]" } else { &name });
    }

    /// The letters between two characters, in the other case.
    fn other_case(&mut self, from: char, to: char) {
        for (low, high) in [('a', 'z'), ('A', 'Z')] {
            let (from, to) = (from.max(low), to.min(high));
            if from <= to {
                let swap = |c: char| char::from(c as u8 ^ 0x20);
                self.out.extend([swap(from), '-', swap(to)]);
            }
        }
    }

    /// What follows a backslash. Letters mean other things than in the regex crate (`\b` is a
    /// backspace, `\y` the edge of a word), and classes are those of the "C" locale.
    fn escape(&mut self, characters: &mut Peekable<Chars<'_>>, in_class: bool) -> Result<Escaped> {
        let invalid = || invalid("invalid escape \\ sequence");
        let Some(c) = characters.next() else { return Err(invalid()) };
        let mut hexadecimal = |least: usize, most: usize| {
            let mut digits = String::new();
            while digits.len() < most
                && let Some(digit) = characters.next_if(char::is_ascii_hexdigit)
            {
                digits.push(digit);
            }
            if digits.len() < least {
                return Err(invalid());
            }
            u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).ok_or_else(invalid)
        };
        let (digit, space, word) = ("0-9", " \\t-\\r", "0-9A-Za-z_");
        Ok(Escaped::Literal(match c {
            'd' | 's' | 'w' => {
                let members = match c {
                    'd' => digit,
                    's' => space,
                    _ => word,
                };
                self.out.push_str(&if in_class { members.to_owned() } else { format!("[{members}]") });
                return Ok(Escaped::Done);
            }
            'D' | 'S' | 'W' if !in_class => {
                let members = match c {
                    'D' => digit,
                    'S' => space,
                    _ => word,
                };
                self.out.push_str(&format!("[^{members}]"));
                return Ok(Escaped::Done);
            }
            'y' | 'Y' | 'm' | 'M' | 'A' | 'Z' if !in_class => {
                self.out.push_str(match c {
                    'y' => "(?-u:\\b)",
                    'Y' => "(?-u:\\B)",
                    'm' => "(?-u:\\b{start})",
                    'M' => "(?-u:\\b{end})",
                    'A' => "\\A",
                    _ => "\\z",
                });
                return Ok(Escaped::Done);
            }
            '1'..='9' if !in_class => {
                return Err(SqlError::unsupported("a back reference in a regular expression"));
            }
            'a' => '\u{7}',
            'b' => '\u{8}',
            'B' => '\\',
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '0' => '\0',
            'c' => match characters.next() {
                Some(control) => char::from((u32::from(control) & 31) as u8),
                None => return Err(invalid()),
            },
            'x' => hexadecimal(1, 255)?,
            'u' => hexadecimal(4, 4)?,
            'U' => hexadecimal(8, 8)?,
            c if c.is_ascii_alphanumeric() => return Err(invalid()),
            c => c,
        }))
    }
}
