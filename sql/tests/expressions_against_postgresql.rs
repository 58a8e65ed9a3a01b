//! Expressions compared with PostgreSQL 15: `scripts/expressions/*.slt` hold its results (see
//! `regenerate.py` there), for input, output, functions, operators and casts.
//!
//! The expressions are written so that a few lines can resolve them without the binder: literals
//! carry their types, infix operators stand in parentheses.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_sql::expr::{EvalContext, Program, Scalar};
use cairn_sql::func::{self, Builtin, CastContext, CastMethod};
use cairn_sql::types::{Datum, TextContext, Type, TypeKind, modifier, name, parse_text, text_of, timezone};
use cairn_sql::{Result, SqlError, SqlState};

/// Expressions whose results differ on purpose, with the reason.
const KNOWN_DIFFERENCES: &[(&str, &str)] = &[
    ("float8 '0x10'", HEX),
    ("float4 '0x10'", HEX),
    ("cbrt(float8 '-1.5')", CBRT),
    ("cbrt(float8 '2.5')", CBRT),
    ("cbrt(float8 '3.5')", CBRT),
    ("cbrt(float8 '0.1')", CBRT),
    ("cbrt(float8 '100')", CBRT),
];
const HEX: &str = "hexadecimal floats are an accident of strtod";
const CBRT: &str = "the C library's cbrt is off by one unit in the last place";

struct Parser<'a> {
    text: &'a str,
    at: usize,
    context: EvalContext,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.blanks();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn word(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        self.blanks();
        let rest = self.rest();
        let end = rest.find(|c: char| !part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn literal(&mut self) -> String {
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let end = rest.find('\'').expect("a literal ends");
            out.push_str(&rest[..end]);
            self.at += end + 1;
            if !self.rest().starts_with('\'') {
                return out;
            }
            out.push('\'');
            self.at += 1;
        }
    }

    fn type_from(&mut self, word: &str) -> Type {
        let mut kind = match word {
            "char" => TypeKind::Bpchar,
            word => name::type_by_name(word).unwrap_or_else(|| panic!("type {word} in {}", self.text)),
        };
        let mut modifier = if word == "char" { modifier::parse(kind, &[1]).unwrap() } else { -1 };
        if self.rest().starts_with('(') {
            let end = self.rest().find(')').expect("a modifier ends");
            let arguments: Vec<i32> = self.rest()[1..end].split(',').map(|a| a.parse().unwrap()).collect();
            modifier = modifier::parse(kind, &arguments).unwrap();
            self.at += end + 1;
        }
        if self.take("[]") {
            kind = kind.array().expect("an array type");
        }
        Type { kind, modifier }
    }

    fn typed_literal(&self, text: &str, ty: Type) -> Result<Scalar> {
        let value = parse_text(text, Type::new(ty.kind), &self.context.text)?;
        Ok(Scalar::Const { value: modifier::coerce(value, ty, true)?, ty })
    }

    fn expression(&mut self) -> Result<Scalar> {
        let mut scalar = self.primary()?;
        while self.take("::") {
            let word = self.word(|c| c.is_alphanumeric() || c == '_');
            let ty = self.type_from(word);
            scalar = match scalar {
                Scalar::Const { value: Datum::Text(text), ty: from } if from.kind == TypeKind::Unknown => {
                    self.typed_literal(&text, ty)?
                }
                scalar => cast(scalar, ty, CastContext::Explicit),
            };
        }
        Ok(scalar)
    }

    fn primary(&mut self) -> Result<Scalar> {
        if self.take("'") {
            let text = self.literal();
            return Ok(Scalar::Const { value: Datum::text(text), ty: TypeKind::Unknown.into() });
        }
        if self.take("(") {
            self.blanks();
            if !self.rest().starts_with(|c: char| c.is_alphanumeric() || matches!(c, '(' | '\'' | '"')) {
                let symbol = self.word(|c| !c.is_whitespace());
                let operand = self.expression()?;
                assert!(self.take(")"), "{}", self.text);
                return Ok(resolve(func::lookup_operator(symbol), vec![operand], symbol));
            }
            let left = self.expression()?;
            let symbol = self.word(|c| !c.is_whitespace());
            let right = self.expression()?;
            assert!(self.take(")"), "{}", self.text);
            return Ok(resolve(func::lookup_operator(symbol), vec![left, right], symbol));
        }
        self.take("\"");
        let word = self.word(|c| c.is_alphanumeric() || c == '_');
        self.take("\"");
        let functions = func::lookup_function(word);
        let is_literal = {
            let after = self.rest();
            let after =
                after.strip_prefix('(').and_then(|a| a.split_once(')')).map_or(after, |(_, rest)| rest);
            after.trim_start().starts_with('\'')
        };
        if is_literal && (functions.is_empty() || !self.rest().starts_with('(') || word == "char") {
            // A literal `char 'abc'` has no length, unlike the type name elsewhere.
            let bare = word == "char" && !self.rest().starts_with('(');
            let ty = if bare { TypeKind::Bpchar.into() } else { self.type_from(word) };
            assert!(self.take("'"), "{}", self.text);
            let text = self.literal();
            return self.typed_literal(&text, ty);
        }
        assert!(self.take("("), "a call in {}", self.text);
        let mut args = Vec::new();
        while !self.take(")") {
            args.push(self.expression()?);
            self.take(",");
        }
        Ok(resolve(functions, args, word))
    }
}

fn cast(scalar: Scalar, ty: Type, context: CastContext) -> Scalar {
    let from = scalar.ty();
    let mut scalar = match func::cast(from.kind, ty.kind) {
        Some(cast) if cast.context <= context => match cast.method {
            CastMethod::Relabel if from.kind == ty.kind => scalar,
            CastMethod::Relabel => relabel(scalar, Type::new(ty.kind)),
            CastMethod::Call(function) => {
                Scalar::Call { function, args: vec![scalar], ty: Type::new(ty.kind), position: usize::MAX }
            }
        },
        _ => panic!("no cast from {from} to {ty}"),
    };
    if modifier::is_coercion(ty) {
        let function = func::length_coercion(ty.kind).expect("the type has modifiers");
        let constant = |value, kind: TypeKind| Scalar::Const { value, ty: kind.into() };
        scalar = Scalar::Call {
            function,
            args: vec![
                scalar,
                constant(Datum::Int4(ty.modifier), TypeKind::Int4),
                constant(Datum::Bool(context == CastContext::Explicit), TypeKind::Bool),
            ],
            ty,
            position: usize::MAX,
        };
    }
    scalar
}

/// A one-branch CASE changes an expression's type without touching its value.
fn relabel(scalar: Scalar, ty: Type) -> Scalar {
    Scalar::Coalesce { args: vec![scalar], ty }
}

fn resolve(candidates: &[&'static Builtin], args: Vec<Scalar>, name: &str) -> Scalar {
    let kinds: Vec<TypeKind> = args.iter().map(|a| a.ty().kind).collect();
    let accepts = |parameter: TypeKind, kind: TypeKind| -> Option<u32> {
        match parameter {
            p if p == kind => Some(0),
            TypeKind::Any | TypeKind::AnyElement => Some(5),
            TypeKind::AnyArray => kind.is_array().then_some(2),
            p => func::cast(kind, p)
                .filter(|c| c.context == CastContext::Implicit)
                .map(|_| if p.is_preferred() { 10 } else { 11 }),
        }
    };
    let cost = |b: &&'static Builtin| -> Option<u32> {
        let fits = b.args.len() == kinds.len() || (b.variadic && kinds.len() >= b.args.len());
        if !fits {
            return None;
        }
        kinds.iter().enumerate().map(|(i, k)| accepts(b.args[i.min(b.args.len() - 1)], *k)).sum()
    };
    let function = candidates
        .iter()
        .filter_map(|b| cost(b).map(|c| (c, *b)))
        .min_by_key(|(c, _)| *c)
        .unwrap_or_else(|| panic!("no {name} over {kinds:?}"))
        .1;
    let args: Vec<Scalar> = args
        .into_iter()
        .enumerate()
        .map(|(i, a)| match function.args[i.min(function.args.len() - 1)] {
            TypeKind::Any | TypeKind::AnyElement | TypeKind::AnyArray => a,
            kind if kind == a.ty().kind => a,
            kind => cast(a, kind.into(), CastContext::Implicit),
        })
        .collect();
    let result = match function.result {
        TypeKind::AnyArray => kinds.iter().copied().find(|k| k.is_array()).expect("an array argument"),
        TypeKind::AnyElement => kinds[0].element().unwrap_or(kinds[0]),
        kind => kind,
    };
    Scalar::Call { function, args, ty: result.into(), position: usize::MAX }
}

fn run(expression: &str) -> String {
    let text =
        TextContext { time_zone: timezone::by_name("America/New_York").unwrap(), ..TextContext::default() };
    let context = EvalContext { text: Arc::new(text), ..EvalContext::constant() };
    let mut parser = Parser { text: expression, at: 0, context: context.clone() };
    let evaluated = parser.expression().and_then(|scalar| {
        let value = Program::compile(&scalar)?.eval_row(&context, &[])?;
        Ok((value, scalar.ty()))
    });
    let shown = evaluated.and_then(|(value, ty)| {
        assert!(parser.rest().trim().is_empty(), "junk behind {expression}");
        let text = text_of(&value, ty, &context.text);
        if let Some(text) = &text {
            check_binary(&value, ty, text, &context)?;
        }
        Ok(text.map_or("NULL".to_owned(), |s| s.to_string()))
    });
    match shown {
        Ok(text) => text,
        Err(error) => format!("ERROR {}: {}", error.state().as_str(), error.message()),
    }
}

/// The binary form reads back as the same value.
fn check_binary(value: &Datum, ty: Type, text: &str, context: &EvalContext) -> Result<()> {
    let ty = Type::new(ty.kind);
    let mut binary = Vec::new();
    cairn_sql::types::write_binary(value, ty, &mut binary);
    let back = match cairn_sql::types::read_binary(&binary, ty) {
        Ok(back) => back,
        // Types that clients cannot send.
        Err(error) if error.state() == SqlState::UNDEFINED_FUNCTION => return Ok(()),
        Err(error) => return Err(error),
    };
    let again = text_of(&back, ty, &context.text);
    if again.as_deref() != Some(text) {
        return Err(SqlError::new(SqlState::INTERNAL, format!("binary form of {text} reads as {again:?}")));
    }
    Ok(())
}

#[test]
fn expressions_agree_with_postgresql() {
    let mut files: Vec<_> = std::fs::read_dir("tests/scripts/expressions")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let known: BTreeMap<&str, &str> = KNOWN_DIFFERENCES.iter().copied().collect();
    let mut differences = Vec::new();
    let mut count = 0;
    for file in files {
        let script = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = script.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if *line != "----" {
                continue;
            }
            let expression = lines[i - 1];
            let expected = lines.get(i + 1).copied().unwrap_or("");
            count += 1;
            let found = std::panic::catch_unwind(|| run(expression)).unwrap_or_else(|_| "PANIC".into());
            // Results of several lines are compared by their first.
            let first = found.lines().next().unwrap_or("");
            if first != expected && !known.contains_key(expression) {
                differences.push(format!("{expression}\n  PostgreSQL: {expected}\n  Cairn:      {found}"));
            }
        }
    }
    assert!(count > 1_000, "{count} expressions");
    assert!(differences.is_empty(), "{} of {count} differ:\n{}", differences.len(), differences.join("\n"));
}
