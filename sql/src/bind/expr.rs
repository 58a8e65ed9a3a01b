//! Expressions.

use super::Binder;
use super::scope::{APPLIED, Clause, Level, PendingApply, Scope};
use crate::ast::{self, Expr, ExprKind, LikeKind, Literal};
use crate::error::{Result, SqlError, SqlState};
use crate::expr::Scalar;
use crate::func::{CastContext, Comparison, comparison_operator};
use crate::plan::logical::{Plan, Subquery};
use crate::types::{Datum, Type, TypeKind, parse_text};

impl Binder<'_> {
    /// Binds an expression at the current level.
    pub(super) fn expr(&mut self, expr: &Expr) -> Result<Scalar> {
        let position = expr.position;
        match &expr.kind {
            ExprKind::Column(parts) => self.column(parts, position),
            ExprKind::Wildcard(_) => Err(SqlError::unsupported("a whole row as a value").at(position)),
            ExprKind::Literal(literal) => self.literal(literal, position),
            ExprKind::Param(index) => Ok(self.param(*index, position)),
            ExprKind::Unary { operator, operand } => {
                let value = self.expr(operand)?;
                // PostgreSQL has no unary plus of unknown; it means the number.
                self.operator(
                    operator.schema.as_deref(),
                    &operator.symbol,
                    vec![(value, operand.position)],
                    position,
                )
            }
            ExprKind::Chain { first, rest } => self.chain(first, rest),
            ExprKind::And(items) => Ok(Scalar::And(self.conditions(items, "AND")?)),
            ExprKind::Or(items) => Ok(Scalar::Or(self.conditions(items, "OR")?)),
            ExprKind::Not(operand) => Ok(negate(self.condition(operand, "NOT")?)),
            ExprKind::IsNull { operand, negated } => {
                if let ExprKind::Row(items) = &operand.kind {
                    return self.row_is_null(items, *negated);
                }
                let value = self.expr(operand)?;
                let value = self.known(value, operand.position)?;
                let test = Scalar::IsNull(Box::new(value));
                Ok(if *negated { negate(test) } else { test })
            }
            ExprKind::IsBool { operand, value, negated } => {
                let construct = match (value, negated) {
                    (Some(true), false) => "IS TRUE",
                    (Some(true), true) => "IS NOT TRUE",
                    (Some(false), false) => "IS FALSE",
                    (Some(false), true) => "IS NOT FALSE",
                    (None, false) => "IS UNKNOWN",
                    (None, true) => "IS NOT UNKNOWN",
                };
                let operand = self.condition(operand, construct)?;
                let test = match value {
                    None => Scalar::IsNull(Box::new(operand)),
                    Some(value) => Scalar::Coalesce {
                        args: vec![
                            if *value { operand } else { negate(operand) },
                            Scalar::constant(Datum::Bool(false), TypeKind::Bool),
                        ],
                        ty: Type::new(TypeKind::Bool),
                    },
                };
                Ok(if *negated { negate(test) } else { test })
            }
            ExprKind::IsDistinct { left, right, negated } => {
                let l = self.expr(left)?;
                let r = self.expr(right)?;
                let equal =
                    self.operator(None, "=", vec![(l, left.position), (r, right.position)], position)?;
                let args = match &equal {
                    Scalar::Call { args, .. } => args.clone(),
                    // Folded: of constants.
                    _ => {
                        let (l, r) = (self.expr(left)?, self.expr(right)?);
                        let (l, r) = (self.known(l, left.position)?, self.known(r, right.position)?);
                        vec![l, r]
                    }
                };
                let [l, r] = args.try_into().expect("= has two operands");
                let (l_null, r_null) = (Scalar::IsNull(Box::new(l)), Scalar::IsNull(Box::new(r)));
                // NULLs are equal to each other and to nothing else.
                let same = Scalar::Coalesce {
                    args: vec![equal, Scalar::And(vec![l_null, r_null])],
                    ty: Type::new(TypeKind::Bool),
                };
                Ok(if *negated { same } else { negate(same) })
            }
            ExprKind::Between { operand, low, high, negated, symmetric } => {
                let within = self.between(operand, low, high, *symmetric, position)?;
                Ok(if *negated { negate(within) } else { within })
            }
            ExprKind::InList { left, items, negated } => {
                let test = self.in_list(left, items, position)?;
                Ok(if *negated { negate(test) } else { test })
            }
            ExprKind::InSubquery { left, query, negated } => {
                let operator = ast::OperatorName { schema: None, symbol: "=".into() };
                let test = self.quantified(left, &operator, false, query, position)?;
                Ok(if *negated { negate(test) } else { test })
            }
            ExprKind::Like { left, pattern, escape, kind, negated } => {
                self.like(left, pattern, escape.as_deref(), *kind, *negated, position)
            }
            ExprKind::QuantifiedArray { left, operator, all, array } => {
                self.any_array(left, operator, *all, array, position)
            }
            ExprKind::QuantifiedSubquery { left, operator, all, query } => {
                self.quantified(left, operator, *all, query, position)
            }
            ExprKind::Function(call) => self.function(call, position),
            ExprKind::Cast { operand, ty } => self.cast(operand, ty, position),
            ExprKind::Collate { operand, collation } => {
                if !matches!(collation.name.as_str(), "C" | "POSIX" | "default") {
                    return Err(SqlError::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!("collation \"{collation}\" for encoding \"UTF8\" does not exist"),
                    )
                    .at(position));
                }
                let value = self.expr(operand)?;
                let value = self.known(value, operand.position)?;
                let kind = value.ty().kind;
                if kind.category() != crate::types::Category::String {
                    return Err(SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!("collations are not supported by type {}", value.ty()),
                    )
                    .at(position));
                }
                Ok(value)
            }
            ExprKind::Case { operand, whens, otherwise } => {
                self.case(operand.as_deref(), whens, otherwise.as_deref())
            }
            ExprKind::Coalesce(args) => {
                let (args, ty) = self.common(args, "COALESCE")?;
                Ok(Scalar::Coalesce { args, ty })
            }
            ExprKind::NullIf(left, right) => {
                let l = self.expr(left)?;
                let r = self.expr(right)?;
                let equal = self.find_operator(None, "=", &[l.ty().kind, r.ty().kind], position)?;
                // The result is the left side as the operator takes it: NULLIF(1, 1.5) is numeric.
                let taken = match equal.args[0] {
                    TypeKind::AnyArray | TypeKind::AnyElement => l.ty(),
                    // PostgreSQL compares a date with a timestamp as it is.
                    TypeKind::Timestamp | TypeKind::TimestampTz if l.ty().kind != TypeKind::Unknown => l.ty(),
                    kind if kind == l.ty().kind => l.ty(),
                    kind => Type::new(kind),
                };
                let l = self.coerce(l, taken, CastContext::Implicit, left.position)?;
                let value = self.known(l.clone(), left.position)?;
                let equal = self.apply(equal, vec![(l, left.position), (r, right.position)], position)?;
                let ty = value.ty();
                let null = Scalar::Const { value: Datum::Null, ty };
                Ok(Scalar::Case { whens: vec![(equal, null)], otherwise: Some(Box::new(value)), ty })
            }
            ExprKind::MinMax { greatest, args } => {
                let construct = if *greatest { "GREATEST" } else { "LEAST" };
                let (args, ty) = self.common(args, construct)?;
                Ok(Scalar::Extreme { greatest: *greatest, args, ty })
            }
            ExprKind::Subquery(query) => {
                let (plan, slots) = self.subquery(query)?;
                let ty = self.single_column(&plan, position)?;
                Ok(self.apply_subquery(plan, slots, Subquery::Scalar, ty))
            }
            ExprKind::Exists(query) => {
                let (plan, slots) = self.subquery(query)?;
                Ok(self.apply_subquery(plan, slots, Subquery::Exists, Type::new(TypeKind::Bool)))
            }
            ExprKind::ArraySubquery(query) => {
                let (plan, slots) = self.subquery(query)?;
                let ty = self.single_column(&plan, position)?;
                let array = self.array_of(ty.kind, position)?;
                Ok(self.apply_subquery(plan, slots, Subquery::Array, array))
            }
            ExprKind::Array(items) => {
                if items.is_empty() {
                    return Err(SqlError::new(
                        SqlState::INDETERMINATE_DATATYPE,
                        "cannot determine type of empty array",
                    )
                    .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[].")
                    .at(position));
                }
                let (items, ty) = self.common(items, "ARRAY")?;
                let ty = self.array_of(ty.kind, position)?;
                Ok(Scalar::Array { items, ty })
            }
            ExprKind::Row(_) => Err(SqlError::unsupported("a row constructor as a value").at(position)),
            ExprKind::Subscript { array, index } => {
                let value = self.expr(array)?;
                let kind = value.ty().kind;
                let Some(element) = kind.element() else {
                    return Err(SqlError::new(
                        SqlState::DATATYPE_MISMATCH,
                        format!(
                            "cannot subscript type {} because it does not support subscripting",
                            value.ty()
                        ),
                    )
                    .at(array.position));
                };
                let subscript = self.expr(index)?;
                let int4 = Type::new(TypeKind::Int4);
                let subscript = self.coerce(subscript, int4, CastContext::Assignment, index.position)?;
                let function = self.internal("array_subscript", position)?;
                self.call(function, vec![value, subscript], Type::new(element), position)
            }
            ExprKind::Slice { .. } => Err(SqlError::unsupported("an array slice").at(position)),
            ExprKind::Default => {
                Err(SqlError::new(SqlState::SYNTAX_ERROR, "DEFAULT is not allowed in this context")
                    .at(position))
            }
        }
    }

    /// A function that syntax stands for.
    fn internal(&self, name: &str, position: usize) -> Result<&'static crate::func::Builtin> {
        crate::func::lookup_function(name)
            .first()
            .copied()
            .ok_or_else(|| SqlError::unsupported(format!("{name}()")).at(position))
    }

    fn literal(&mut self, literal: &Literal, position: usize) -> Result<Scalar> {
        Ok(match literal {
            Literal::Null => Scalar::constant(Datum::Null, TypeKind::Unknown),
            Literal::Bool(value) => Scalar::constant(Datum::Bool(*value), TypeKind::Bool),
            Literal::String(text) => Scalar::constant(Datum::text(text.as_str()), TypeKind::Unknown),
            Literal::Integer(digits) => match digits.parse::<i64>() {
                Ok(value) => match i32::try_from(value) {
                    Ok(value) => Scalar::constant(Datum::Int4(value), TypeKind::Int4),
                    Err(_) => Scalar::constant(Datum::Int8(value), TypeKind::Int8),
                },
                Err(_) => self.numeric(digits, position)?,
            },
            Literal::Numeric(digits) => self.numeric(digits, position)?,
        })
    }

    fn numeric(&self, digits: &str, position: usize) -> Result<Scalar> {
        let value = parse_text(digits, Type::new(TypeKind::Numeric), &self.settings.text)
            .map_err(|e| e.at(position))?;
        Ok(Scalar::constant(value, TypeKind::Numeric))
    }

    fn param(&mut self, index: usize, position: usize) -> Scalar {
        if index >= self.params.len() {
            self.params.resize(index + 1, None);
        }
        let ty = self.params[index].unwrap_or(Type::new(TypeKind::Unknown));
        if ty.kind == TypeKind::Unknown {
            self.param_positions.push((index, position));
        }
        Scalar::Param { index, ty }
    }

    /// A value whose unknown type becomes text.
    pub(super) fn known(&mut self, scalar: Scalar, position: usize) -> Result<Scalar> {
        if scalar.ty().kind == TypeKind::Unknown {
            return self.coerce(scalar, Type::new(TypeKind::Text), CastContext::Implicit, position);
        }
        Ok(scalar)
    }

    /// A condition: `construct` names who wants one.
    pub(super) fn condition(&mut self, expr: &Expr, construct: &str) -> Result<Scalar> {
        let value = self.expr(expr)?;
        let bool = Type::new(TypeKind::Bool);
        match self.try_coerce(value, bool, CastContext::Implicit, expr.position)? {
            Ok(value) => Ok(value),
            Err(from) => Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!("argument of {construct} must be type boolean, not type {from}"),
            )
            .at(expr.position)),
        }
    }

    fn conditions(&mut self, items: &[Expr], construct: &str) -> Result<Vec<Scalar>> {
        items.iter().map(|item| self.condition(item, construct)).collect()
    }

    fn chain(&mut self, first: &Expr, rest: &[ast::ChainLink]) -> Result<Scalar> {
        if let [link] = rest
            && let (ExprKind::Row(left), ExprKind::Row(right)) = (&first.kind, &link.operand.kind)
        {
            return self.row_comparison(left, &link.operator.symbol, right, link.position);
        }
        let depth = self.chain_depth;
        let mut value = self.expr(first)?;
        let mut left_position = first.position;
        for link in rest {
            self.chain_depth += 1;
            let right = self.expr(&link.operand)?;
            value = self.operator(
                link.operator.schema.as_deref(),
                &link.operator.symbol,
                vec![(value, left_position), (right, link.operand.position)],
                link.position,
            )?;
            left_position = link.position;
            // Folded so far: the tree has no depth.
            if matches!(value, Scalar::Const { .. }) {
                self.chain_depth = depth;
            }
        }
        self.chain_depth = depth;
        Ok(value)
    }

    fn row_comparison(
        &mut self,
        left: &[Expr],
        symbol: &str,
        right: &[Expr],
        position: usize,
    ) -> Result<Scalar> {
        if left.len() != right.len() || left.is_empty() {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "unequal number of entries in row expressions",
            )
            .at(position));
        }
        let pair = |binder: &mut Self, symbol: &str, i: usize| -> Result<Scalar> {
            let l = binder.expr(&left[i])?;
            let r = binder.expr(&right[i])?;
            binder.operator(None, symbol, vec![(l, left[i].position), (r, right[i].position)], position)
        };
        let combine = |items: Vec<Scalar>, and: bool| match (items.len(), and) {
            (1, _) => items.into_iter().next().expect("one item"),
            (_, true) => Scalar::And(items),
            (_, false) => Scalar::Or(items),
        };
        match symbol {
            "=" | "<>" => {
                let items = (0..left.len()).map(|i| pair(self, symbol, i)).collect::<Result<Vec<_>>>()?;
                Ok(combine(items, symbol == "="))
            }
            "<" | "<=" | ">" | ">=" => {
                // a < x OR (a = x AND (b < y OR …))
                let strict = &symbol[..1];
                let last = left.len() - 1;
                let mut test = pair(self, symbol, last)?;
                for i in (0..last).rev() {
                    let first = pair(self, strict, i)?;
                    let equal = pair(self, "=", i)?;
                    test = Scalar::Or(vec![first, Scalar::And(vec![equal, test])]);
                }
                Ok(test)
            }
            _ => Err(SqlError::unsupported(format!("operator {symbol} of rows")).at(position)),
        }
    }

    fn row_is_null(&mut self, items: &[Expr], negated: bool) -> Result<Scalar> {
        let tests = items
            .iter()
            .map(|item| {
                let value = self.expr(item)?;
                let value = self.known(value, item.position)?;
                let test = Scalar::IsNull(Box::new(value));
                Ok(if negated { negate(test) } else { test })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(match tests.len() {
            0 => Scalar::constant(Datum::Bool(true), TypeKind::Bool),
            1 => tests.into_iter().next().expect("one item"),
            _ => Scalar::And(tests),
        })
    }

    fn between(
        &mut self,
        operand: &Expr,
        low: &Expr,
        high: &Expr,
        symmetric: bool,
        position: usize,
    ) -> Result<Scalar> {
        let test = |binder: &mut Self, symbol: &str, bound: &Expr| -> Result<Scalar> {
            let value = binder.expr(operand)?;
            let limit = binder.expr(bound)?;
            binder.operator(None, symbol, vec![(value, operand.position), (limit, bound.position)], position)
        };
        let plain = Scalar::And(vec![test(self, ">=", low)?, test(self, "<=", high)?]);
        if !symmetric {
            return Ok(plain);
        }
        let swapped = Scalar::And(vec![test(self, ">=", high)?, test(self, "<=", low)?]);
        Ok(Scalar::Or(vec![plain, swapped]))
    }

    fn in_list(&mut self, left: &Expr, items: &[Expr], position: usize) -> Result<Scalar> {
        if let ExprKind::Row(parts) = &left.kind {
            let tests = items
                .iter()
                .map(|item| match &item.kind {
                    ExprKind::Row(right) => self.row_comparison(parts, "=", right, position),
                    _ => Err(SqlError::new(
                        SqlState::SYNTAX_ERROR,
                        "unequal number of entries in row expressions",
                    )
                    .at(item.position)),
                })
                .collect::<Result<Vec<_>>>()?;
            return Ok(if tests.len() == 1 {
                tests.into_iter().next().expect("one")
            } else {
                Scalar::Or(tests)
            });
        }
        let value = self.expr(left)?;
        let bound = items.iter().map(|item| self.expr(item)).collect::<Result<Vec<_>>>()?;
        if let [item] = items {
            let right = bound.into_iter().next().expect("one item");
            return self.operator(None, "=", vec![(value, left.position), (right, item.position)], position);
        }
        // All items of one type with the left side: a list. Else: one comparison each.
        let mut types = vec![(value.ty(), left.position)];
        types.extend(bound.iter().zip(items).map(|(b, item)| (b.ty(), item.position)));
        let common = self.common_type(&types, "IN").ok();
        let equals = common.and_then(|ty| {
            let known = self.find_operator(None, "=", &[ty.kind, ty.kind], position).ok()?;
            (known.args[0] == known.args[1]).then_some((ty, known))
        });
        if let Some((_, equals)) = equals {
            let to = if matches!(equals.args[0], TypeKind::AnyArray | TypeKind::AnyElement | TypeKind::Any) {
                common.expect("it was found")
            } else {
                Type::new(equals.args[0])
            };
            let left_value = self.coerce(value, to, CastContext::Implicit, left.position)?;
            let items = bound
                .into_iter()
                .zip(items)
                .map(|(b, item)| self.coerce(b, to, CastContext::Implicit, item.position))
                .collect::<Result<Vec<_>>>()?;
            return Ok(Scalar::InList { left: Box::new(left_value), items, equals });
        }
        let tests = bound
            .into_iter()
            .zip(items)
            .map(|(b, item)| {
                self.operator(None, "=", vec![(value.clone(), left.position), (b, item.position)], position)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Scalar::Or(tests))
    }

    fn like(
        &mut self,
        left: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        kind: LikeKind,
        negated: bool,
        position: usize,
    ) -> Result<Scalar> {
        let value = self.expr(left)?;
        let mut pattern_value = self.expr(pattern)?;
        let mut symbol = match kind {
            LikeKind::Like => "~~",
            LikeKind::ILike => "~~*",
            LikeKind::SimilarTo => "~",
        }
        .to_owned();
        let helper = match (kind, escape) {
            (LikeKind::SimilarTo, _) => Some("similar_to_escape"),
            (_, Some(_)) => Some("like_escape"),
            _ => None,
        };
        if let Some(helper) = helper {
            let mut args = vec![(pattern_value, pattern.position)];
            if let Some(escape) = escape {
                args.push((self.expr(escape)?, escape.position));
            }
            pattern_value = self.function_by_name(helper, args, position)?;
        }
        if negated {
            symbol.insert(0, '!');
        }
        self.operator(
            None,
            &symbol,
            vec![(value, left.position), (pattern_value, pattern.position)],
            position,
        )
    }

    fn any_array(
        &mut self,
        left: &Expr,
        operator: &ast::OperatorName,
        all: bool,
        array: &Expr,
        position: usize,
    ) -> Result<Scalar> {
        let value = self.expr(left)?;
        let mut array_value = self.expr(array)?;
        if array_value.ty().kind == TypeKind::Unknown {
            let element = match value.ty().kind {
                TypeKind::Unknown => TypeKind::Text,
                TypeKind::Varchar => TypeKind::Text,
                kind => kind,
            };
            let to = self.array_of(element, position)?;
            array_value = self.coerce(array_value, to, CastContext::Implicit, array.position)?;
        }
        let Some(element) = array_value.ty().kind.element() else {
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                "op ANY/ALL (array) requires array on right side",
            )
            .at(position));
        };
        let builtin = self.find_operator(
            operator.schema.as_deref(),
            &operator.symbol,
            &[value.ty().kind, element],
            position,
        )?;
        if builtin.result != TypeKind::Bool {
            return Err(SqlError::new(
                SqlState::WRONG_OBJECT_TYPE,
                "op ANY/ALL (array) requires operator to yield boolean",
            )
            .at(position));
        }
        let [left_kind, right_kind] = [builtin.args[0], builtin.args[1]];
        let value = self.coerce(value, Type::new(left_kind), CastContext::Implicit, left.position)?;
        if right_kind != element
            && let Some(to) = right_kind.array()
        {
            array_value = self.coerce(array_value, Type::new(to), CastContext::Implicit, array.position)?;
        }
        Ok(Scalar::AnyArray { left: Box::new(value), operator: builtin, array: Box::new(array_value), all })
    }

    fn quantified(
        &mut self,
        left: &Expr,
        operator: &ast::OperatorName,
        all: bool,
        query: &ast::Query,
        position: usize,
    ) -> Result<Scalar> {
        if let ExprKind::Row(_) = left.kind {
            return Err(SqlError::unsupported("a row compared with a subquery").at(position));
        }
        let value = self.expr(left)?;
        let (mut plan, slots) = self.subquery(query)?;
        if plan.schema.len() != 1 {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                if plan.schema.is_empty() {
                    "subquery has too few columns"
                } else {
                    "subquery has too many columns"
                },
            )
            .at(position));
        }
        let column = plan.schema[0].ty;
        let builtin = self.find_operator(
            operator.schema.as_deref(),
            &operator.symbol,
            &[value.ty().kind, column.kind],
            position,
        )?;
        let left_value =
            self.coerce(value, Type::new(builtin.args[0]), CastContext::Implicit, left.position)?;
        if builtin.args[1] != column.kind {
            let item = Scalar::Column { index: 0, ty: column };
            let item = self.coerce(item, Type::new(builtin.args[1]), CastContext::Implicit, position)?;
            plan = self.project(plan, vec![item], None);
        }
        let kind = Subquery::Quantified { left: left_value, operator: builtin, all };
        Ok(self.apply_subquery(plan, slots, kind, Type::new(TypeKind::Bool)))
    }

    fn cast(&mut self, operand: &Expr, ty: &ast::TypeName, position: usize) -> Result<Scalar> {
        let to = self.resolve_type(ty)?;
        // ARRAY[] takes its type from the cast.
        if let ExprKind::Array(items) = &operand.kind
            && let Some(element) = to.kind.element()
        {
            let items = items
                .iter()
                .map(|item| {
                    let value = self.expr(item)?;
                    let element = Type { kind: element, modifier: to.modifier };
                    self.coerce(value, element, CastContext::Explicit, item.position)
                })
                .collect::<Result<Vec<_>>>()?;
            return Ok(Scalar::Array { items, ty: to });
        }
        let value = self.expr(operand)?;
        let at = if value.ty().kind == TypeKind::Unknown { operand.position } else { position };
        // Names of objects are looked up when the statement runs, unless the names are at hand.
        let name = matches!(
            to.kind,
            TypeKind::Regclass
                | TypeKind::Regtype
                | TypeKind::Regproc
                | TypeKind::Regnamespace
                | TypeKind::Regrole
        );
        if name
            && self.settings.text.names.is_none()
            && let Scalar::Const { value: Datum::Text(_), ty } = &value
            && ty.kind == TypeKind::Unknown
        {
            let text = self.coerce(value, Type::new(TypeKind::Text), CastContext::Implicit, at)?;
            return self.coerce(text, to, CastContext::Explicit, at);
        }
        self.coerce(value, to, CastContext::Explicit, at)
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        whens: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
    ) -> Result<Scalar> {
        let mut conditions = Vec::with_capacity(whens.len());
        for (condition, _) in whens {
            conditions.push(match operand {
                None => self.condition(condition, "CASE/WHEN")?,
                Some(operand) => {
                    let value = self.expr(operand)?;
                    let value = self.known(value, operand.position)?;
                    let item = self.expr(condition)?;
                    self.operator(
                        None,
                        "=",
                        vec![(value, operand.position), (item, condition.position)],
                        condition.position,
                    )?
                }
            });
        }
        let mut bound = Vec::new();
        for (_, result) in whens {
            bound.push((self.expr(result)?, result.position));
        }
        if let Some(result) = otherwise {
            bound.push((self.expr(result)?, result.position));
        }
        let types: Vec<(Type, usize)> = bound.iter().map(|(b, at)| (b.ty(), *at)).collect();
        let ty = self.common_type(&types, "CASE")?;
        let mut values = bound
            .into_iter()
            .map(|(value, at)| self.coerce(value, ty, CastContext::Implicit, at))
            .collect::<Result<Vec<_>>>()?;
        let otherwise = otherwise.and_then(|_| values.pop()).map(Box::new);
        Ok(Scalar::Case { whens: conditions.into_iter().zip(values).collect(), otherwise, ty })
    }

    /// Expressions brought to one type.
    fn common(&mut self, args: &[Expr], construct: &str) -> Result<(Vec<Scalar>, Type)> {
        let bound = args.iter().map(|arg| self.expr(arg)).collect::<Result<Vec<_>>>()?;
        let types: Vec<(Type, usize)> = bound.iter().zip(args).map(|(b, a)| (b.ty(), a.position)).collect();
        let ty = self.common_type(&types, construct)?;
        let args = bound
            .into_iter()
            .zip(args)
            .map(|(b, a)| self.coerce(b, ty, CastContext::Implicit, a.position))
            .collect::<Result<Vec<_>>>()?;
        Ok((args, ty))
    }

    fn array_of(&self, element: TypeKind, position: usize) -> Result<Type> {
        element.array().map(Type::new).ok_or_else(|| {
            SqlError::new(
                SqlState::UNDEFINED_OBJECT,
                format!("could not find array type for data type {}", Type::new(element)),
            )
            .at(position)
        })
    }

    fn single_column(&self, plan: &Plan, position: usize) -> Result<Type> {
        match plan.schema.as_slice() {
            [column] => Ok(column.ty),
            _ => {
                Err(SqlError::new(SqlState::SYNTAX_ERROR, "subquery must return only one column")
                    .at(position))
            }
        }
    }

    /// Binds a subquery within an expression; the slots hold what it uses of the current level.
    pub(super) fn subquery(&mut self, query: &ast::Query) -> Result<(Plan, Vec<(usize, Scalar)>)> {
        self.count_operator(query.position)?;
        if self.levels.is_empty() {
            let plan = self.query(query)?;
            return Ok((plan, Vec::new()));
        }
        let depth = self.levels.len() - 1;
        let saved = std::mem::take(&mut self.levels[depth].captures);
        let chain = std::mem::take(&mut self.chain_depth);
        let plan = self.query(query);
        self.chain_depth = chain;
        let slots = std::mem::replace(&mut self.levels[depth].captures, saved);
        Ok((plan?, slots))
    }

    fn apply_subquery(
        &mut self,
        subplan: Plan,
        slots: Vec<(usize, Scalar)>,
        kind: Subquery,
        ty: Type,
    ) -> Scalar {
        let level = self.level();
        let index = APPLIED + level.applies.len();
        level.applies.push(PendingApply { subplan, slots, kind, ty });
        Scalar::Column { index, ty }
    }

    /// Binds an expression that stands outside of any query: a default, LIMIT, an argument.
    pub(super) fn lone_expr(&mut self, expr: &Expr, clause: &'static str) -> Result<Scalar> {
        self.levels.push(Level::new(Scope::default(), Clause::Other(clause)));
        let value = self.expr(expr);
        let level = self.levels.pop().expect("it was pushed");
        let value = value?;
        if !level.applies.is_empty() {
            // PostgreSQL names the clause in the singular here, in the plural in its other messages.
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("cannot use subquery in {}", clause.trim_end_matches('s')),
            )
            .at(expr.position));
        }
        Ok(value)
    }
}

/// `NOT`, with double negations and comparisons simplified where that keeps NULLs.
pub fn negate(scalar: Scalar) -> Scalar {
    match scalar {
        Scalar::Not(inner) => *inner,
        Scalar::Const { value: Datum::Bool(value), ty } => Scalar::Const { value: Datum::Bool(!value), ty },
        other => Scalar::Not(Box::new(other)),
    }
}

/// `=` over a type, for grouping and joins.
pub fn equality(kind: TypeKind) -> Option<&'static crate::func::Builtin> {
    comparison_operator(Comparison::Eq, kind)
}
