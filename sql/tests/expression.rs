//! Builtins, casts and programs: smoke tests of the registry and of both evaluation paths.

use cairn_sql::batch::{BATCH_ROWS, Batch};
use cairn_sql::expr::{EvalContext, Program, Scalar};
use cairn_sql::func::{self, Comparison};
use cairn_sql::types::{Datum, Type, TypeKind, text_of};
use proptest::prelude::*;

fn column(index: usize, kind: TypeKind) -> Scalar {
    Scalar::Column { index, ty: kind.into() }
}

fn constant(value: Datum, kind: TypeKind) -> Scalar {
    Scalar::Const { value, ty: kind.into() }
}

fn operator(symbol: &str, left: Scalar, right: Scalar) -> Scalar {
    let kinds = [left.ty().kind, right.ty().kind];
    let function = *func::lookup_operator(symbol)
        .iter()
        .find(|b| b.args == kinds)
        .unwrap_or_else(|| panic!("no operator {symbol} over {kinds:?}"));
    Scalar::Call { function, args: vec![left, right], ty: function.result.into(), position: usize::MAX }
}

fn call(name: &str, args: Vec<Scalar>) -> Scalar {
    let kinds: Vec<TypeKind> = args.iter().map(|a| a.ty().kind).collect();
    let function = *func::lookup_function(name)
        .iter()
        .find(|b| b.args == kinds)
        .unwrap_or_else(|| panic!("no function {name} over {kinds:?}"));
    Scalar::Call { function, args, ty: function.result.into(), position: usize::MAX }
}

fn eval(scalar: &Scalar, row: &[Datum]) -> Result<String, String> {
    let context = EvalContext::constant();
    let value =
        Program::compile(scalar).and_then(|p| p.eval_row(&context, row)).map_err(|e| e.to_string())?;
    Ok(text_of(&value, scalar.ty(), &context.text).map_or("NULL".to_owned(), |s| s.to_string()))
}

/// Renders a result so that both paths can be compared, NaN included.
fn shown(value: &Datum, ty: Type) -> String {
    text_of(value, ty, &EvalContext::constant().text).map_or("NULL".to_owned(), |s| s.to_string())
}

#[test]
fn integer_overflow_and_division_are_errors() {
    let max = constant(Datum::Int4(i32::MAX), TypeKind::Int4);
    let one = constant(Datum::Int4(1), TypeKind::Int4);
    let zero = constant(Datum::Int4(0), TypeKind::Int4);
    assert_eq!(eval(&operator("+", max, one.clone()), &[]), Err("22003: integer out of range".into()));
    assert_eq!(eval(&operator("/", one, zero), &[]), Err("22012: division by zero".into()));
}

#[test]
fn case_does_not_evaluate_what_it_does_not_take() {
    // CASE WHEN x <> 0 THEN 10 / x ELSE -1 END
    let x = || column(0, TypeKind::Int4);
    let zero = || constant(Datum::Int4(0), TypeKind::Int4);
    let case = Scalar::Case {
        whens: vec![(
            operator("<>", x(), zero()),
            operator("/", constant(Datum::Int4(10), TypeKind::Int4), x()),
        )],
        otherwise: Some(Box::new(constant(Datum::Int4(-1), TypeKind::Int4))),
        ty: TypeKind::Int4.into(),
    };
    assert_eq!(eval(&case, &[Datum::Int4(0)]), Ok("-1".into()));
    assert_eq!(eval(&case, &[Datum::Int4(5)]), Ok("2".into()));
    let rows: Vec<Vec<Datum>> = (-3..4).map(|v| vec![Datum::Int4(v)]).collect();
    let batch = Batch::from_rows(&[TypeKind::Int4], rows.iter().map(Vec::as_slice));
    let result = Program::compile(&case).unwrap().eval(&EvalContext::constant(), &batch).unwrap();
    let values: Vec<i64> = (0..7).map(|i| result.get(i).as_i64().unwrap()).collect();
    assert_eq!(values, [-3, -5, -10, -1, 10, 5, 3]);
}

#[test]
fn three_valued_logic_of_in() {
    let equals = func::comparison_operator(Comparison::Eq, TypeKind::Int4).unwrap();
    let list = |items: Vec<Datum>| Scalar::InList {
        left: Box::new(column(0, TypeKind::Int4)),
        items: items.into_iter().map(|d| constant(d, TypeKind::Int4)).collect(),
        equals,
    };
    let with_null = list(vec![Datum::Int4(1), Datum::Null]);
    assert_eq!(eval(&with_null, &[Datum::Int4(1)]), Ok("t".into()));
    assert_eq!(eval(&with_null, &[Datum::Int4(2)]), Ok("NULL".into()));
    assert_eq!(eval(&list(vec![Datum::Int4(1)]), &[Datum::Int4(2)]), Ok("f".into()));
}

#[test]
fn deep_expressions_are_refused() {
    let mut scalar = column(0, TypeKind::Int4);
    for _ in 0..5_000 {
        scalar = operator("+", scalar, constant(Datum::Int4(1), TypeKind::Int4));
    }
    let error = Program::compile(&scalar).unwrap_err();
    assert_eq!(error.state().as_str(), "54001");
    // Dropping a tree this deep recurses: leave it.
    std::mem::forget(scalar);
}

#[test]
fn deepest_expression_evaluates_on_a_small_stack() {
    let work = || {
        let mut scalar = column(0, TypeKind::Int8);
        for _ in 0..cairn_sql::expr::program::MAX_DEPTH {
            scalar = operator("+", scalar, constant(Datum::Int8(1), TypeKind::Int8));
        }
        let program = Program::compile(&scalar).unwrap();
        let context = EvalContext::constant();
        let sum = program.eval_row(&context, &[Datum::Int8(0)]).unwrap();
        assert_eq!(sum.as_i64(), Some(cairn_sql::expr::program::MAX_DEPTH as i64));
        let row = [Datum::Int8(0)];
        let batch = Batch::from_rows(&[TypeKind::Int8], [&row[..]]);
        assert_eq!(program.eval(&context, &batch).unwrap().get(0).as_i64(), sum.as_i64());
    };
    // Worker threads of the server have 2 MiB.
    std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap().join().unwrap();
}

/// Random expressions over two int4, a float8, a text and a bool column.
fn expression(depth: u32) -> BoxedStrategy<Scalar> {
    let ints = int_expression(depth);
    let bools = bool_expression(depth);
    prop_oneof![ints, bools].boxed()
}

fn int_expression(depth: u32) -> BoxedStrategy<Scalar> {
    let leaf = prop_oneof![
        (0usize..2).prop_map(|i| column(i, TypeKind::Int4)),
        prop_oneof![Just(0), Just(1), Just(i32::MAX), -5..5i32]
            .prop_map(|v| constant(Datum::Int4(v), TypeKind::Int4)),
        Just(constant(Datum::Null, TypeKind::Int4)),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let sub = || int_expression(depth - 1);
    prop_oneof![
        leaf,
        (prop_oneof![Just("+"), Just("-"), Just("*"), Just("/"), Just("%")], sub(), sub())
            .prop_map(|(o, l, r)| operator(o, l, r)),
        (bool_expression(depth - 1), sub(), proptest::option::of(sub())).prop_map(|(c, a, b)| Scalar::Case {
            whens: vec![(c, a)],
            otherwise: b.map(Box::new),
            ty: TypeKind::Int4.into(),
        }),
        proptest::collection::vec(sub(), 1..3)
            .prop_map(|args| Scalar::Coalesce { args, ty: TypeKind::Int4.into() }),
        (any::<bool>(), proptest::collection::vec(sub(), 1..3))
            .prop_map(|(greatest, args)| Scalar::Extreme { greatest, args, ty: TypeKind::Int4.into() }),
        Just(call("length", vec![column(3, TypeKind::Text)])),
    ]
    .boxed()
}

fn comparison() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("="), Just("<>"), Just("<"), Just("<="), Just(">"), Just(">=")]
}

fn bool_expression(depth: u32) -> BoxedStrategy<Scalar> {
    let leaf = prop_oneof![
        Just(column(4, TypeKind::Bool)),
        Just(constant(Datum::Null, TypeKind::Bool)),
        (comparison(), "[ab]{0,2}").prop_map(|(o, s)| {
            operator(o, column(3, TypeKind::Text), constant(Datum::text(s), TypeKind::Text))
        }),
        (comparison(), prop_oneof![Just(f64::NAN), Just(0.0), Just(-1.5)]).prop_map(|(o, v)| {
            operator(o, column(2, TypeKind::Float8), constant(Datum::Float8(v), TypeKind::Float8))
        }),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let sub = || bool_expression(depth - 1);
    prop_oneof![
        leaf,
        (comparison(), int_expression(depth - 1), int_expression(depth - 1))
            .prop_map(|(o, l, r)| operator(o, l, r)),
        proptest::collection::vec(sub(), 2..4).prop_map(Scalar::And),
        proptest::collection::vec(sub(), 2..4).prop_map(Scalar::Or),
        sub().prop_map(|a| Scalar::Not(Box::new(a))),
        int_expression(depth - 1).prop_map(|a| Scalar::IsNull(Box::new(a))),
        (int_expression(depth - 1), proptest::collection::vec(int_expression(0), 1..4)).prop_map(
            |(left, items)| {
                Scalar::InList {
                    left: Box::new(left),
                    items,
                    equals: func::comparison_operator(Comparison::Eq, TypeKind::Int4).unwrap(),
                }
            }
        ),
    ]
    .boxed()
}

fn row() -> impl Strategy<Value = Vec<Datum>> {
    let int = || {
        prop_oneof![
            4 => (-3..4i32).prop_map(Datum::Int4),
            1 => Just(Datum::Int4(i32::MIN)),
            1 => Just(Datum::Null)
        ]
    };
    (
        int(),
        int(),
        prop_oneof![
            Just(Datum::Float8(f64::NAN)),
            Just(Datum::Float8(-0.0)),
            Just(Datum::Null),
            Just(Datum::Float8(2.5))
        ],
        prop_oneof![3 => "[ab]{0,3}".prop_map(Datum::text), 1 => Just(Datum::Null)],
        prop_oneof![Just(Datum::Bool(true)), Just(Datum::Bool(false)), Just(Datum::Null)],
    )
        .prop_map(|(a, b, c, d, e)| vec![a, b, c, d, e])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Batch and row evaluation agree on every value; a batch fails exactly when a row does.
    #[test]
    fn batch_and_row_evaluation_agree(
        scalar in expression(3),
        rows in proptest::collection::vec(row(), 1..12),
        selected in any::<u16>(),
    ) {
        let context = EvalContext::constant();
        let program = Program::compile(&scalar).unwrap();
        let kinds = [TypeKind::Int4, TypeKind::Int4, TypeKind::Float8, TypeKind::Text, TypeKind::Bool];
        let mut batch = Batch::from_rows(&kinds, rows.iter().map(Vec::as_slice));
        prop_assert!(batch.rows <= BATCH_ROWS);
        for use_selection in [false, true] {
            let chosen: Vec<u32> =
                (0..rows.len() as u32).filter(|i| !use_selection || selected >> i & 1 == 1).collect();
            batch.selection = use_selection.then(|| chosen.clone());
            let one_by_one: Result<Vec<Datum>, _> =
                chosen.iter().map(|i| program.eval_row(&context, &rows[*i as usize])).collect();
            match (one_by_one, program.eval(&context, &batch)) {
                (Ok(values), Ok(column)) => {
                    prop_assert_eq!(values.len(), column.len());
                    for (i, value) in values.iter().enumerate() {
                        prop_assert_eq!(shown(value, scalar.ty()), shown(&column.get(i), scalar.ty()));
                    }
                }
                (Err(_), Err(_)) => {}
                (row, batch) => prop_assert!(false, "row {row:?}, batch {batch:?}"),
            }
            if scalar.ty().kind == TypeKind::Bool {
                let one_by_one: Result<Vec<u32>, _> = chosen
                    .iter()
                    .filter_map(|i| match program.is_true(&context, &rows[*i as usize]) {
                        Ok(true) => Some(Ok(*i)),
                        Ok(false) => None,
                        Err(e) => Some(Err(e)),
                    })
                    .collect();
                match (one_by_one, program.select(&context, &batch)) {
                    (Ok(a), Ok(b)) => prop_assert_eq!(a, b),
                    (Err(_), Err(_)) => {}
                    (row, batch) => prop_assert!(false, "row {row:?}, batch {batch:?}"),
                }
            }
        }
    }
}
