//! Fingerprints: statements with their constants taken out.
//!
//! A client that writes its values into the text (`… WHERE id = 4711`) would miss the plan cache every
//! time. The fingerprint is the text with such constants replaced by parameters, made from the tokens
//! without parsing; the plan under it takes the constants' values as parameters.
//!
//! A constant is taken out only where a parameter of the same type means the same: directly beside a
//! comparison or arithmetic operator, as an item of IN or of VALUES, or as a bound of BETWEEN. All
//! else stays: select lists, ORDER BY and GROUP BY (ordinals), LIMIT (the planner uses it), casts,
//! typed literals, arguments of functions, intervals. An integer's width is part of the fingerprint;
//! a string becomes a parameter of unknown type, whose type the context determines as it does the
//! literal's.

use super::lex::{self, Kind, Token};
use crate::types::{Datum, TypeKind};

/// A statement without its constants.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    /// The text, with `$n` in place of the constants; the widths of integers appended.
    pub text: String,
    /// The constants: their types (`Unknown` for strings, whose values are texts) and values.
    pub constants: Vec<(TypeKind, Datum)>,
}

/// Fingerprint of one SELECT, INSERT, UPDATE or DELETE; `None` for anything else, for several
/// statements, for text with parameters, and where there is nothing to take out.
pub fn fingerprint(sql: &str) -> Option<Fingerprint> {
    let mut scanner = Scanner::new(sql)?;
    let mut out = String::with_capacity(sql.len() + 16);
    let mut copied = scanner.token.start;
    let mut constants: Vec<(TypeKind, Datum)> = Vec::new();
    let mut widths = String::new();
    loop {
        let token = scanner.token;
        match token.kind {
            Kind::End => break,
            Kind::Param => return None,
            Kind::Punctuation if scanner.text() == ";" => {
                scanner.advance()?;
                if scanner.token.kind != Kind::End {
                    return None;
                }
                out.push_str(&sql[copied..token.start]);
                copied = sql.len();
                break;
            }
            Kind::Integer | Kind::String if scanner.is_operand()? => {
                let (sign, constant) = scanner.constant(token)?;
                let start = sign.map_or(token.start, |sign: Token| sign.start);
                if start < copied || constants.len() >= 1000 {
                    return None;
                }
                out.push_str(&sql[copied..start]);
                constants.push(constant);
                out.push('$');
                out.push_str(&constants.len().to_string());
                widths.push(match constants.last()?.0 {
                    TypeKind::Int4 => '4',
                    TypeKind::Int8 => '8',
                    _ => 'u',
                });
                copied = token.end;
            }
            _ => {}
        }
        scanner.advance()?;
    }
    if constants.is_empty() {
        return None;
    }
    out.push_str(sql[copied..].trim_end());
    // A comment ends the statement: it cannot be followed by anything that the lexer reads.
    out.push_str("/*");
    out.push_str(&widths);
    out.push_str("*/");
    Some(Fingerprint { text: out, constants })
}

/// The clause that the scanner is in, as far as it matters which constants may be taken out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clause {
    /// Constants stay.
    Keep,
    /// WHERE, ON: constants beside operators go. (HAVING may repeat an expression of GROUP BY.)
    Condition,
    /// SET: also those that are a whole value.
    Set,
    /// VALUES of INSERT: also those that are a whole item.
    Values,
}

struct Scanner<'a> {
    sql: &'a str,
    token: Token,
    /// The two tokens before.
    before: [Option<Token>; 2],
    clause: Clause,
    insert: bool,
    /// For each open parenthesis: the clause outside, and whether the parenthesis holds a list of IN.
    parens: Vec<(Clause, Paren)>,
    between: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Paren {
    Group,
    In,
    Values,
    Call,
}

impl<'a> Scanner<'a> {
    fn new(sql: &'a str) -> Option<Scanner<'a>> {
        let token = lex::scan(sql, 0).ok()?;
        let text = &sql[token.start..token.end];
        let word = |w: &str| text.eq_ignore_ascii_case(w);
        if !(word("select") || word("insert") || word("update") || word("delete")) {
            return None;
        }
        let insert = word("insert");
        Some(Scanner {
            sql,
            token,
            before: [None, None],
            clause: Clause::Keep,
            insert,
            parens: Vec::new(),
            between: false,
        })
    }

    fn text(&self) -> &'a str {
        &self.sql[self.token.start..self.token.end]
    }

    fn text_of(&self, token: Option<Token>) -> &'a str {
        token.map_or("", |t| &self.sql[t.start..t.end])
    }

    fn advance(&mut self) -> Option<()> {
        self.note();
        let next = lex::scan(self.sql, self.token.end).ok()?;
        self.before = [Some(self.token), self.before[0]];
        self.token = next;
        Some(())
    }

    /// Follows the clauses.
    fn note(&mut self) {
        let text = self.text();
        match self.token.kind {
            Kind::Word => {
                let is = |words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
                if is(&["where", "on"]) {
                    self.clause = Clause::Condition;
                } else if is(&["set"]) {
                    self.clause = Clause::Set;
                } else if is(&["values"]) && self.insert && self.parens.is_empty() {
                    self.clause = Clause::Values;
                } else if is(&[
                    "select",
                    "from",
                    "having",
                    "group",
                    "order",
                    "limit",
                    "offset",
                    "fetch",
                    "returning",
                    "union",
                    "intersect",
                    "except",
                    "for",
                    "as",
                    "with",
                    "conflict",
                    "using",
                    "case",
                    "interval",
                    "window",
                ]) {
                    // FROM also ends SET of an UPDATE, CASE ends what is simple enough to follow.
                    self.clause = Clause::Keep;
                } else if is(&["between"]) {
                    self.between = true;
                }
            }
            Kind::Punctuation if text == "(" => {
                let previous = self.before[0];
                let word = self.text_of(previous);
                let paren = match previous.map(|t| t.kind) {
                    Some(Kind::Word) if word.eq_ignore_ascii_case("in") => Paren::In,
                    Some(Kind::Word) if word.eq_ignore_ascii_case("values") => Paren::Values,
                    Some(Kind::Word)
                        if ["and", "or", "not", "where", "on"]
                            .iter()
                            .any(|w| word.eq_ignore_ascii_case(w)) =>
                    {
                        Paren::Group
                    }
                    Some(Kind::Word | Kind::Quoted) => Paren::Call,
                    Some(Kind::Punctuation) if word == "," && self.clause == Clause::Values => Paren::Values,
                    _ => Paren::Group,
                };
                self.parens.push((self.clause, paren));
                if paren == Paren::Call {
                    self.clause = Clause::Keep;
                }
            }
            Kind::Punctuation if text == ")" => {
                if let Some((clause, _)) = self.parens.pop() {
                    self.clause = clause;
                }
            }
            _ => {}
        }
    }

    /// Whether the constant at the current token may be taken out.
    fn is_operand(&self) -> Option<bool> {
        if self.clause == Clause::Keep {
            return Some(false);
        }
        let next = lex::scan(self.sql, self.token.end).ok()?;
        let next_text = &self.sql[next.start..next.end];
        // A cast, a subscript, a string's continuation or a typed literal gives it another meaning.
        let ends = match next.kind {
            Kind::End => true,
            Kind::Punctuation => matches!(next_text, ")" | "," | ";"),
            Kind::Operator => is_simple_operator(next_text),
            Kind::Word => {
                ["and", "or", "where", "returning", "order", "group", "limit", "from", "for", "offset", "on"]
                    .iter()
                    .any(|w| next_text.eq_ignore_ascii_case(w))
            }
            _ => false,
        };
        if !ends {
            return Some(false);
        }
        let mut before = self.before[0];
        let mut before_that = self.before[1];
        if self.is_sign(before, before_that) {
            if self.token.kind != Kind::Integer {
                return Some(false);
            }
            before = before_that;
            before_that = None;
        }
        let text = self.text_of(before);
        let paren = self.parens.last().map(|(_, paren)| *paren);
        Some(match before.map(|t| t.kind) {
            Some(Kind::Operator) => {
                // `x = - 5`: the sign was skipped above; an operator before an operator is prefix.
                is_simple_operator(text) && !before_that.is_some_and(|t| t.kind == Kind::Operator)
            }
            Some(Kind::Punctuation) if text == "(" || text == "," => {
                matches!(paren, Some(Paren::In | Paren::Values))
                    && (paren == Some(Paren::In) || self.clause == Clause::Values)
                    && (next.kind == Kind::Punctuation || next.kind == Kind::Operator)
            }
            Some(Kind::Word) => {
                text.eq_ignore_ascii_case("between")
                    || self.between && text.eq_ignore_ascii_case("and") && next.kind != Kind::Operator
            }
            _ => false,
        })
    }

    /// Whether `token` is a minus that belongs to the constant after it.
    fn is_sign(&self, token: Option<Token>, before: Option<Token>) -> bool {
        if self.text_of(token) != "-" {
            return false;
        }
        match before.map(|t| t.kind) {
            Some(Kind::Operator) => true,
            Some(Kind::Punctuation) => matches!(self.text_of(before), "(" | ","),
            Some(Kind::Word) => {
                ["between", "and"].iter().any(|w| self.text_of(before).eq_ignore_ascii_case(w))
            }
            _ => false,
        }
    }

    /// The constant at the current token, with its sign.
    fn constant(&self, token: Token) -> Option<(Option<Token>, (TypeKind, Datum))> {
        if token.kind == Kind::String {
            let text = lex::string_value(self.sql, token).ok()?;
            return Some((None, (TypeKind::Unknown, Datum::Text(text.as_ref().into()))));
        }
        let sign = self.before[0].filter(|_| self.is_sign(self.before[0], self.before[1]));
        let digits = &self.sql[token.start..token.end];
        let value: i64 = match sign {
            Some(_) => format!("-{digits}").parse().ok()?,
            None => digits.parse().ok()?,
        };
        let constant = match i32::try_from(value) {
            Ok(value) => (TypeKind::Int4, Datum::Int4(value)),
            Err(_) => (TypeKind::Int8, Datum::Int8(value)),
        };
        Some((sign, constant))
    }
}

fn is_simple_operator(text: &str) -> bool {
    matches!(text, "=" | "<" | ">" | "<=" | ">=" | "<>" | "!=" | "+" | "-")
}
