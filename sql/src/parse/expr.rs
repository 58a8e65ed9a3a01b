//! Expressions, by precedence climbing.

use super::lex::Kind;
use super::{MAX_DEPTH, Parser, keyword, lex, too_complex};
use crate::ast::{
    ChainLink, Expr, ExprKind, FunctionCall, Ident, LikeKind, Literal, ObjectName, OperatorName, TypeName,
};
use crate::error::{Result, SqlError, SqlState};

/// Precedences, from weak to strong (PostgreSQL's documentation, 4.1.6).
mod level {
    pub const OR: u8 = 1;
    pub const AND: u8 = 2;
    pub const NOT: u8 = 3;
    pub const IS: u8 = 4;
    pub const COMPARE: u8 = 5;
    pub const RANGE: u8 = 6;
    pub const OPERATOR: u8 = 7;
    pub const ADD: u8 = 8;
    pub const MULTIPLY: u8 = 9;
    pub const POWER: u8 = 10;
    pub const AT: u8 = 11;
    pub const COLLATE: u8 = 12;
    pub const SIGN: u8 = 13;
}

/// The weakest operators of a DEFAULT, which ends before NOT NULL.
pub(super) const DEFAULT_OPERATORS: u8 = level::COMPARE;

/// What may follow an operand.
enum Infix {
    Or,
    And,
    Is,
    Binary(u8),
    Range,
    At,
    Collate,
}

impl Infix {
    fn level(&self) -> u8 {
        match self {
            Infix::Or => level::OR,
            Infix::And => level::AND,
            Infix::Is => level::IS,
            Infix::Binary(level) => *level,
            Infix::Range => level::RANGE,
            Infix::At => level::AT,
            Infix::Collate => level::COLLATE,
        }
    }
}

impl Parser<'_> {
    /// An expression.
    pub(super) fn expr(&mut self) -> Result<Expr> {
        self.expr_above(level::OR)
    }

    /// An expression without the weak operators: bounds of BETWEEN and the like.
    fn range_operand(&mut self) -> Result<Expr> {
        self.expr_above(level::OPERATOR)
    }

    /// An expression of operators of at least `min`.
    fn expr_above(&mut self, min: u8) -> Result<Expr> {
        self.nested(|p| {
            let first = p.prefix()?;
            p.infix(first, min)
        })
    }

    /// What follows an operand, as far as it binds at least as strongly as `min`.
    pub(super) fn infix(&mut self, mut left: Expr, min: u8) -> Result<Expr> {
        // A comparison, IS or BETWEEN does not associate: two in a row are an error.
        let mut ceiling = u8::MAX;
        let mut count = 0;
        while let Some(infix) = self.next_infix()? {
            count += 1;
            if count > MAX_DEPTH {
                return Err(too_complex("stack depth limit exceeded", self.token.start));
            }
            let level = infix.level();
            if level < min {
                break;
            }
            if level > ceiling || (level == ceiling && matches!(level, level::IS..=level::RANGE)) {
                return Err(self.unexpected());
            }
            ceiling = level;
            left = match infix {
                Infix::Or | Infix::And => self.logic(left, matches!(infix, Infix::Or))?,
                Infix::Is => self.is_test(left)?,
                Infix::Binary(_) => self.chain(left, level)?,
                Infix::Range => self.range_test(left)?,
                Infix::At => self.at_time_zone(left)?,
                Infix::Collate => {
                    let position = self.advance()?.start;
                    let name = self.ident_if(|_| true)?;
                    let collation = self.object_name_after(name)?;
                    self.node(position, ExprKind::Collate { operand: Box::new(left), collation })?
                }
            };
        }
        Ok(left)
    }

    fn next_infix(&mut self) -> Result<Option<Infix>> {
        let text = self.text();
        Ok(match self.token.kind {
            Kind::Operator => Some(Infix::Binary(match text {
                "=" | "<" | ">" | "<=" | ">=" | "<>" | "!=" => level::COMPARE,
                "+" | "-" => level::ADD,
                "*" | "/" | "%" => level::MULTIPLY,
                "^" => level::POWER,
                _ => level::OPERATOR,
            })),
            Kind::Word => match text.len() {
                2..=8 => match text.to_ascii_lowercase().as_str() {
                    "or" => Some(Infix::Or),
                    "and" => Some(Infix::And),
                    "is" | "isnull" | "notnull" => Some(Infix::Is),
                    "between" | "in" | "like" | "ilike" | "similar" => Some(Infix::Range),
                    "not" => {
                        let next = self.peek(1)?;
                        let next = self.text_of(next).to_ascii_lowercase();
                        matches!(next.as_str(), "between" | "in" | "like" | "ilike" | "similar")
                            .then_some(Infix::Range)
                    }
                    "operator" if self.peek_is(1, "(")? => Some(Infix::Binary(level::OPERATOR)),
                    "at" if self.peek_is_word(1, "time")? => Some(Infix::At),
                    "collate" => Some(Infix::Collate),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        })
    }

    fn logic(&mut self, left: Expr, or: bool) -> Result<Expr> {
        let (word, level) = if or { ("or", level::OR) } else { ("and", level::AND) };
        let position = self.token.start;
        let mut items = vec![left];
        while self.eat_word(word)? {
            items.push(self.expr_above(level + 1)?);
        }
        self.node(position, if or { ExprKind::Or(items) } else { ExprKind::And(items) })
    }

    fn operator(&mut self) -> Result<OperatorName> {
        if self.eat_word("operator")? {
            self.expect("(")?;
            let schema = if self.token.kind == Kind::Operator {
                None
            } else {
                let schema = self.label()?.name;
                self.expect(".")?;
                Some(schema)
            };
            if self.token.kind != Kind::Operator {
                return Err(self.unexpected());
            }
            let symbol = self.text().to_owned();
            self.advance()?;
            self.expect(")")?;
            return Ok(OperatorName { schema, symbol });
        }
        let symbol = if self.is("!=") { "<>" } else { self.text() }.to_owned();
        self.advance()?;
        Ok(OperatorName { schema: None, symbol })
    }

    /// Operators of one level, with `ANY` and `ALL` among the right operands.
    fn chain(&mut self, left: Expr, level: u8) -> Result<Expr> {
        let first_position = self.token.start;
        let mut first = left;
        let mut rest = Vec::new();
        loop {
            let position = self.token.start;
            let operator = self.operator()?;
            if self.is_any(&["any", "some", "all"]) && self.peek_is(1, "(")? {
                if !rest.is_empty() {
                    first = self.node(
                        first_position,
                        ExprKind::Chain { first: Box::new(first), rest: std::mem::take(&mut rest) },
                    )?;
                }
                first = self.quantified(first, operator, position)?;
            } else {
                let operand = self.expr_above(level + 1)?;
                rest.push(ChainLink { operator, operand, position });
            }
            let more = matches!(self.next_infix()?, Some(Infix::Binary(next)) if next == level);
            if level == level::COMPARE || !more {
                break;
            }
        }
        if rest.is_empty() {
            return Ok(first);
        }
        self.node(first_position, ExprKind::Chain { first: Box::new(first), rest })
    }

    fn quantified(&mut self, left: Expr, operator: OperatorName, position: usize) -> Result<Expr> {
        let all = self.is_word("all");
        self.advance()?;
        self.expect("(")?;
        let left = Box::new(left);
        let kind = if self.at_query() {
            let query = Box::new(self.query()?);
            ExprKind::QuantifiedSubquery { left, operator, all, query }
        } else {
            let array = Box::new(self.expr()?);
            ExprKind::QuantifiedArray { left, operator, all, array }
        };
        self.expect(")")?;
        self.node(position, kind)
    }

    fn is_test(&mut self, left: Expr) -> Result<Expr> {
        let position = self.token.start;
        let operand = Box::new(left);
        if self.eat_word("isnull")? {
            return self.node(position, ExprKind::IsNull { operand, negated: false });
        }
        if self.eat_word("notnull")? {
            return self.node(position, ExprKind::IsNull { operand, negated: true });
        }
        self.expect_word("is")?;
        let negated = self.eat_word("not")?;
        let kind = if self.eat_word("null")? {
            ExprKind::IsNull { operand, negated }
        } else if self.eat_word("true")? {
            ExprKind::IsBool { operand, value: Some(true), negated }
        } else if self.eat_word("false")? {
            ExprKind::IsBool { operand, value: Some(false), negated }
        } else if self.eat_word("unknown")? {
            ExprKind::IsBool { operand, value: None, negated }
        } else if self.eat_words(&["distinct", "from"])? {
            let right = Box::new(self.expr_above(level::IS + 1)?);
            ExprKind::IsDistinct { left: operand, right, negated }
        } else {
            return Err(self.unexpected());
        };
        self.node(position, kind)
    }

    /// BETWEEN, IN, LIKE and their negations.
    fn range_test(&mut self, left: Expr) -> Result<Expr> {
        let position = self.token.start;
        let negated = self.eat_word("not")?;
        let left = Box::new(left);
        if self.eat_word("between")? {
            let symmetric = self.eat_word("symmetric")?;
            if !symmetric {
                self.eat_word("asymmetric")?;
            }
            let low = Box::new(self.range_operand()?);
            self.expect_word("and")?;
            let high = Box::new(self.range_operand()?);
            return self.node(position, ExprKind::Between { operand: left, low, high, negated, symmetric });
        }
        if self.eat_word("in")? {
            self.expect("(")?;
            let kind = if self.at_query() {
                let query = Box::new(self.query()?);
                ExprKind::InSubquery { left, query, negated }
            } else {
                let mut items = self.comma_separated(Parser::expr)?;
                match items.as_mut_slice() {
                    [Expr { kind: ExprKind::Subquery(_), .. }] => {
                        let Some(Expr { kind: ExprKind::Subquery(query), .. }) = items.pop() else {
                            unreachable!("the pattern above holds")
                        };
                        ExprKind::InSubquery { left, query, negated }
                    }
                    _ => ExprKind::InList { left, items, negated },
                }
            };
            self.expect(")")?;
            return self.node(position, kind);
        }
        let kind = if self.eat_word("like")? {
            LikeKind::Like
        } else if self.eat_word("ilike")? {
            LikeKind::ILike
        } else {
            self.expect_words(&["similar", "to"])?;
            LikeKind::SimilarTo
        };
        if self.is_any(&["any", "some", "all"]) && self.peek_is(1, "(")? {
            let symbol = match (kind, negated) {
                (LikeKind::Like, false) => "~~",
                (LikeKind::Like, true) => "!~~",
                (LikeKind::ILike, false) => "~~*",
                (LikeKind::ILike, true) => "!~~*",
                (LikeKind::SimilarTo, _) => return Err(self.unexpected()),
            };
            let operator = OperatorName { schema: None, symbol: symbol.to_owned() };
            return self.quantified(*left, operator, position);
        }
        let pattern = Box::new(self.range_operand()?);
        let escape = if self.eat_word("escape")? { Some(Box::new(self.range_operand()?)) } else { None };
        self.node(position, ExprKind::Like { left, pattern, escape, kind, negated })
    }

    fn at_time_zone(&mut self, mut left: Expr) -> Result<Expr> {
        let mut count = 0;
        while self.is_word("at") && self.peek_is_word(1, "time")? {
            let position = self.token.start;
            self.expect_words(&["at", "time", "zone"])?;
            let zone = self.expr_above(level::AT + 1)?;
            left = self.call(position, "timezone", vec![zone, left])?;
            count += 1;
            if count > MAX_DEPTH {
                return Err(too_complex("stack depth limit exceeded", position));
            }
        }
        Ok(left)
    }

    /// A call of a builtin that syntax stands for.
    fn call(&mut self, position: usize, name: &str, args: Vec<Expr>) -> Result<Expr> {
        let name = ObjectName { schema: Some("pg_catalog".into()), name: name.to_owned(), position };
        self.node(position, ExprKind::Function(Box::new(plain_call(name, args))))
    }

    /// An operand: prefix operators, a primary and what follows it directly (`::`, `[]`).
    pub(super) fn prefix(&mut self) -> Result<Expr> {
        let position = self.token.start;
        if self.token.kind == Kind::Operator {
            let symbol = self.text().to_owned();
            let level = match symbol.as_str() {
                "+" | "-" => level::SIGN,
                "*" | "/" | "<" | ">" | "=" | "^" | "%" | "<=" | ">=" | "<>" | "!=" => {
                    return Err(self.unexpected());
                }
                _ => level::OPERATOR + 1,
            };
            self.advance()?;
            let operand = self.expr_above(level)?;
            // PostgreSQL folds the sign into a number before anything else sees it.
            if symbol == "-"
                && let ExprKind::Literal(Literal::Integer(text) | Literal::Numeric(text)) = &operand.kind
                && !text.starts_with('-')
            {
                let text = format!("-{text}");
                let literal = match operand.kind {
                    ExprKind::Literal(Literal::Integer(_)) => Literal::Integer(text),
                    _ => Literal::Numeric(text),
                };
                return Ok(Expr { kind: ExprKind::Literal(literal), position });
            }
            let operator = OperatorName { schema: None, symbol };
            return self.node(position, ExprKind::Unary { operator, operand: Box::new(operand) });
        }
        if self.is_word("operator") && self.peek_is(1, "(")? {
            let operator = self.operator()?;
            let operand = Box::new(self.expr_above(level::OPERATOR + 1)?);
            return self.node(position, ExprKind::Unary { operator, operand });
        }
        if self.eat_word("not")? {
            let operand = Box::new(self.expr_above(level::NOT)?);
            return self.node(position, ExprKind::Not(operand));
        }
        let primary = self.primary()?;
        self.postfix(primary)
    }

    fn postfix(&mut self, mut expr: Expr) -> Result<Expr> {
        let mut count = 0;
        loop {
            let position = self.token.start;
            if self.eat("::")? {
                let ty = self.type_name()?;
                expr = self.node(position, ExprKind::Cast { operand: Box::new(expr), ty })?;
            } else if self.eat("[")? {
                expr = self.subscript(expr, position)?;
            } else if self.is(".") && !matches!(expr.kind, ExprKind::Column(_)) {
                return Err(SqlError::unsupported("selection of a field of a composite value").at(position));
            } else {
                return Ok(expr);
            }
            count += 1;
            if count > MAX_DEPTH {
                return Err(too_complex("stack depth limit exceeded", position));
            }
        }
    }

    fn subscript(&mut self, array: Expr, position: usize) -> Result<Expr> {
        let array = Box::new(array);
        let low = if self.is(":") { None } else { Some(Box::new(self.expr()?)) };
        let kind = if self.eat(":")? {
            let high = if self.is("]") { None } else { Some(Box::new(self.expr()?)) };
            ExprKind::Slice { array, low, high }
        } else {
            let Some(index) = low else { return Err(self.unexpected()) };
            ExprKind::Subscript { array, index }
        };
        self.expect("]")?;
        self.node(position, kind)
    }

    fn literal(&mut self, literal: Literal) -> Result<Expr> {
        let token = self.advance()?;
        self.node(token.start, ExprKind::Literal(literal))
    }

    /// An operand that no operator precedes.
    pub(super) fn primary(&mut self) -> Result<Expr> {
        let position = self.token.start;
        match self.token.kind {
            Kind::Integer => self.literal(Literal::Integer(self.text().to_owned())),
            Kind::Numeric => self.literal(Literal::Numeric(self.text().to_owned())),
            Kind::String | Kind::EscapeString | Kind::UnicodeString | Kind::DollarString => {
                let text = self.string()?;
                self.node(position, ExprKind::Literal(Literal::String(text)))
            }
            Kind::BitString => Err(SqlError::unsupported("type bit").at(position)),
            Kind::Param => {
                let number = self.text()[1..].parse::<usize>().unwrap_or(usize::MAX);
                if number == 0 || number > 65_535 {
                    return Err(SqlError::new(
                        SqlState::UNDEFINED_PARAMETER,
                        format!("there is no parameter {}", self.text()),
                    )
                    .at(position));
                }
                self.advance()?;
                self.node(position, ExprKind::Param(number - 1))
            }
            Kind::Punctuation if self.is("(") => self.parenthesis(),
            Kind::Word => self.word_primary(),
            Kind::Quoted | Kind::UnicodeIdent => self.name_primary(),
            _ => Err(self.unexpected()),
        }
    }

    fn parenthesis(&mut self) -> Result<Expr> {
        let position = self.token.start;
        self.advance()?;
        if self.at_query() {
            let query = self.query()?;
            self.expect(")")?;
            return self.node(position, ExprKind::Subquery(Box::new(query)));
        }
        let first = self.expr()?;
        if let ExprKind::Subquery(_) = first.kind
            && self.at_query_tail()
        {
            // `((SELECT …) UNION …)`: the first parentheses belonged to a query's body.
            let ExprKind::Subquery(query) = first.kind else { unreachable!("checked above") };
            let query = self.query_after_nested(*query)?;
            self.expect(")")?;
            return self.node(position, ExprKind::Subquery(Box::new(query)));
        }
        if self.eat(",")? {
            let mut items = vec![first];
            items.extend(self.comma_separated(Parser::expr)?);
            self.expect(")")?;
            return self.node(position, ExprKind::Row(items));
        }
        self.expect(")")?;
        Ok(first)
    }

    fn word_primary(&mut self) -> Result<Expr> {
        let position = self.token.start;
        let word = self.text().to_ascii_lowercase();
        let called = self.peek_is(1, "(")?;
        match word.as_str() {
            "null" => return self.literal(Literal::Null),
            "true" => return self.literal(Literal::Bool(true)),
            "false" => return self.literal(Literal::Bool(false)),
            "default" => {
                self.advance()?;
                return self.node(position, ExprKind::Default);
            }
            "case" => return self.case(),
            "cast" if called => {
                self.advance()?;
                self.expect("(")?;
                let operand = Box::new(self.expr()?);
                self.expect_word("as")?;
                let ty = self.type_name()?;
                self.expect(")")?;
                return self.node(position, ExprKind::Cast { operand, ty });
            }
            "exists" if called => {
                self.advance()?;
                self.expect("(")?;
                let query = Box::new(self.query()?);
                self.expect(")")?;
                return self.node(position, ExprKind::Exists(query));
            }
            "array" => {
                self.advance()?;
                if self.eat("(")? {
                    let query = Box::new(self.query()?);
                    self.expect(")")?;
                    return self.node(position, ExprKind::ArraySubquery(query));
                }
                return self.array(position);
            }
            "row" if called => {
                self.advance()?;
                self.expect("(")?;
                let items = if self.is(")") { Vec::new() } else { self.comma_separated(Parser::expr)? };
                self.expect(")")?;
                return self.node(position, ExprKind::Row(items));
            }
            "coalesce" | "nullif" | "greatest" | "least" if called => {
                self.advance()?;
                let mut args = self.parenthesized(Parser::expr)?;
                let kind = match word.as_str() {
                    "coalesce" => ExprKind::Coalesce(args),
                    "nullif" => {
                        if args.len() != 2 {
                            return Err(lex::error_at(
                                self.sql,
                                self.previous_end - 1,
                                self.previous_end,
                                "syntax error",
                            ));
                        }
                        let second = args.pop().expect("two arguments");
                        ExprKind::NullIf(Box::new(args.pop().expect("two arguments")), Box::new(second))
                    }
                    word => ExprKind::MinMax { greatest: word == "greatest", args },
                };
                return self.node(position, kind);
            }
            "extract" | "substring" | "trim" | "position" | "overlay" if called => {
                return self.special_call(&word);
            }
            "current_date" | "current_user" | "session_user" | "user" | "current_role"
            | "current_catalog" | "localtimestamp" | "current_timestamp" | "current_time" | "localtime" => {
                self.advance()?;
                let mut args = Vec::new();
                if self.is("(") && (word.starts_with("local") || word.contains("time")) {
                    args = self.parenthesized(Parser::expr)?;
                }
                return self.call(position, &word, args);
            }
            "current_schema" if !called => {
                self.advance()?;
                return self.call(position, "current_schema", Vec::new());
            }
            "grouping" if called => {
                return Err(SqlError::unsupported("GROUPING").at(position));
            }
            _ => {}
        }
        if let Some(literal) = self.typed_literal(&word)? {
            return Ok(literal);
        }
        self.name_primary()
    }

    /// `type 'literal'`.
    fn typed_literal(&mut self, word: &str) -> Result<Option<Expr>> {
        let position = self.token.start;
        let begin = (self.token, self.previous_end);
        let spelled = matches!(
            word,
            "int"
                | "integer"
                | "smallint"
                | "bigint"
                | "real"
                | "boolean"
                | "double"
                | "float"
                | "decimal"
                | "dec"
                | "numeric"
                | "character"
                | "char"
                | "nchar"
                | "national"
                | "varchar"
                | "time"
                | "timestamp"
                | "interval"
        );
        let next = self.peek(1)?;
        let string_next =
            matches!(next.kind, Kind::String | Kind::EscapeString | Kind::UnicodeString | Kind::DollarString);
        if !(spelled || string_next && keyword::is_function_name(word)) {
            return Ok(None);
        }
        let Ok(mut ty) = self.simple_type_name() else {
            self.rewind(begin.0, begin.1);
            return Ok(None);
        };
        if !self.at_string() {
            self.rewind(begin.0, begin.1);
            return Ok(None);
        }
        let string = self.token.start;
        let mut text = self.string()?;
        if ty.name == "interval"
            && ty.modifiers.is_empty()
            && let Some(field) = self.interval_fields()?
            && text.trim().parse::<f64>().is_ok()
        {
            text = format!("{text} {field}");
        }
        ty.position = position;
        let operand = Box::new(self.node(string, ExprKind::Literal(Literal::String(text)))?);
        Ok(Some(self.node(position, ExprKind::Cast { operand, ty })?))
    }

    fn array(&mut self, position: usize) -> Result<Expr> {
        self.nested(|p| {
            p.expect("[")?;
            let mut items = Vec::new();
            if !p.is("]") {
                items = p.comma_separated(|p| {
                    if p.is("[") {
                        return Err(SqlError::unsupported("an array of several dimensions").at(p.token.start));
                    }
                    p.expr()
                })?;
            }
            p.expect("]")?;
            p.node(position, ExprKind::Array(items))
        })
    }

    fn case(&mut self) -> Result<Expr> {
        let position = self.advance()?.start;
        let operand = if self.is_word("when") { None } else { Some(Box::new(self.expr()?)) };
        let mut whens = Vec::new();
        while self.eat_word("when")? {
            let condition = self.expr()?;
            self.expect_word("then")?;
            whens.push((condition, self.expr()?));
        }
        if whens.is_empty() {
            return Err(self.unexpected());
        }
        let otherwise = if self.eat_word("else")? { Some(Box::new(self.expr()?)) } else { None };
        self.expect_word("end")?;
        self.node(position, ExprKind::Case { operand, whens, otherwise })
    }

    /// Calls whose arguments the standard separates by words.
    fn special_call(&mut self, word: &str) -> Result<Expr> {
        let position = self.advance()?.start;
        self.expect("(")?;
        let (name, args) = match word {
            "extract" => {
                let field_position = self.token.start;
                let field = if self.at_string() { self.string()? } else { self.label()?.name };
                let field = self.node(field_position, ExprKind::Literal(Literal::String(field)))?;
                self.expect_word("from")?;
                ("extract", vec![field, self.expr()?])
            }
            "position" => {
                let needle = self.range_operand()?;
                self.expect_word("in")?;
                let haystack = self.range_operand()?;
                ("position", vec![haystack, needle])
            }
            "substring" => {
                let mut args = vec![self.expr()?];
                if self.eat(",")? {
                    args.extend(self.comma_separated(Parser::expr)?);
                } else if self.eat_word("similar")? {
                    args.push(self.expr()?);
                    self.expect_word("escape")?;
                    args.push(self.expr()?);
                } else {
                    let mut from = None;
                    let mut count = None;
                    while self.is_any(&["from", "for"]) {
                        let slot = if self.is_word("from") { &mut from } else { &mut count };
                        if slot.is_some() {
                            return Err(self.unexpected());
                        }
                        self.advance()?;
                        *slot = Some(self.expr()?);
                    }
                    match (from, count) {
                        (Some(from), count) => {
                            args.push(from);
                            args.extend(count);
                        }
                        (None, Some(count)) => {
                            args.push(self.node(position, ExprKind::Literal(Literal::Integer("1".into())))?);
                            args.push(count);
                        }
                        (None, None) => {}
                    }
                }
                ("substring", args)
            }
            "overlay" => {
                let mut args = vec![self.expr()?];
                if self.eat(",")? {
                    args.extend(self.comma_separated(Parser::expr)?);
                } else {
                    self.expect_word("placing")?;
                    args.push(self.expr()?);
                    self.expect_word("from")?;
                    args.push(self.expr()?);
                    if self.eat_word("for")? {
                        args.push(self.expr()?);
                    }
                }
                ("overlay", args)
            }
            _ => {
                let name = if self.eat_word("leading")? {
                    "ltrim"
                } else if self.eat_word("trailing")? {
                    "rtrim"
                } else {
                    self.eat_word("both")?;
                    "btrim"
                };
                let mut args =
                    if self.is_word("from") { Vec::new() } else { self.comma_separated(Parser::expr)? };
                if self.eat_word("from")? {
                    // `TRIM(chars FROM text)`: the text comes first in the call.
                    let mut text = self.comma_separated(Parser::expr)?;
                    text.append(&mut args);
                    args = text;
                }
                (name, args)
            }
        };
        self.expect(")")?;
        self.call(position, name, args)
    }

    /// A column or a function call.
    fn name_primary(&mut self) -> Result<Expr> {
        let position = self.token.start;
        let plain = self.token.kind == Kind::Word;
        let word = self.text().to_owned();
        let first = self.ident_if(|word| keyword::is_column_name(word) || keyword::is_function_name(word))?;
        let mut parts = vec![first];
        while self.is(".") {
            self.advance()?;
            if self.is("*") {
                self.advance()?;
                return self.node(position, ExprKind::Wildcard(parts));
            }
            parts.push(self.label()?);
        }
        if self.is("(") {
            if plain && parts.len() == 1 && !keyword::is_function_name(&word) {
                return Err(self.unexpected());
            }
            return self.function_call(parts);
        }
        if plain && parts.len() == 1 && !keyword::is_column_name(&word) {
            return Err(lex::error_at(self.sql, position, position + word.len(), "syntax error"));
        }
        if parts.len() > 1 && self.at_string() {
            // `pg_catalog.regclass 'x'`
            let operand_position = self.token.start;
            let text = self.string()?;
            let operand = Box::new(self.node(operand_position, ExprKind::Literal(Literal::String(text)))?);
            let name = parts.pop().expect("a name has parts").name;
            let schema = parts.pop().map(|part| part.name);
            let ty = TypeName { schema, name, modifiers: Vec::new(), array: false, position };
            return self.node(position, ExprKind::Cast { operand, ty });
        }
        self.node(position, ExprKind::Column(parts))
    }

    fn function_call(&mut self, mut parts: Vec<Ident>) -> Result<Expr> {
        let position = parts[0].position;
        let name = parts.pop().expect("a name has parts").name;
        let schema = parts.pop().map(|part| part.name);
        let call = self.call_arguments(ObjectName { schema, name, position })?;
        self.node(position, ExprKind::Function(Box::new(call)))
    }

    /// The parenthesized part of a call.
    pub(super) fn call_arguments(&mut self, name: ObjectName) -> Result<FunctionCall> {
        let mut call = plain_call(name, Vec::new());
        self.expect("(")?;
        if self.is("*") && self.peek_is(1, ")")? {
            self.advance()?;
            call.star = true;
        } else if !self.is(")") {
            call.distinct = self.eat_word("distinct")?;
            if !call.distinct {
                self.eat_word("all")?;
            }
            let mut variadic = false;
            call.args = self.comma_separated(|p| {
                variadic = p.eat_word("variadic")?;
                let arg = p.expr()?;
                if p.is("=>") || p.is(":=") {
                    return Err(SqlError::unsupported("named argument notation").at(p.token.start));
                }
                Ok(arg)
            })?;
            call.variadic = variadic;
            if self.is_word("order") {
                call.order_by = self.order_by()?;
            }
        }
        self.expect(")")?;
        if self.is_word("within") && self.peek_is_word(1, "group")? {
            return Err(SqlError::unsupported("WITHIN GROUP").at(self.token.start));
        }
        if self.is_word("filter") && self.peek_is(1, "(")? {
            self.advance()?;
            self.advance()?;
            self.expect_word("where")?;
            call.filter = Some(self.expr()?);
            self.expect(")")?;
        }
        if self.is_word("over") {
            return Err(SqlError::unsupported("a window function").at(self.token.start));
        }
        Ok(call)
    }
}

/// A call with nothing but arguments.
fn plain_call(name: ObjectName, args: Vec<Expr>) -> FunctionCall {
    FunctionCall {
        name,
        args,
        star: false,
        distinct: false,
        order_by: Vec::new(),
        filter: None,
        variadic: false,
    }
}
