//! The key encoding's promises: order, no prefixes, round trip, skipping, and errors, never panics,
//! for anything else.

use std::cmp::Ordering;

use cairn_kv::encoding::{
    Decimal, Direction, Element, prefix_end, put_bytes, put_decimal, put_f64, put_i64, put_null, skip, take,
    take_bytes, take_f64, take_i64,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A column: its type, direction and where NULLs sort.
#[derive(Clone, Copy, Debug)]
struct Column {
    kind: Kind,
    direction: Direction,
    nulls_first: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Int,
    Float,
    Bytes,
    Decimal,
}

fn column() -> impl Strategy<Value = Column> {
    let kind = prop_oneof![Just(Kind::Int), Just(Kind::Float), Just(Kind::Bytes), Just(Kind::Decimal)];
    (kind, any::<bool>(), any::<bool>()).prop_map(|(kind, desc, nulls_first)| Column {
        kind,
        direction: if desc { Direction::Desc } else { Direction::Asc },
        nulls_first,
    })
}

fn int() -> impl Strategy<Value = i64> {
    // Around every change of length.
    let edge = (0..64u32, -2..=2i64).prop_map(|(bit, near)| (1i64 << bit.min(62)).wrapping_add(near));
    prop_oneof![
        -300..300i64,
        any::<i64>(),
        edge.clone(),
        edge.prop_map(|value| value.wrapping_neg()),
        Just(i64::MIN),
        Just(i64::MAX)
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        any::<u64>().prop_map(f64::from_bits),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            1.0,
            -1.0
        ])
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0u8), Just(1), Just(0xff), Just(0xfe), any::<u8>()], 0..8)
}

fn decimal() -> impl Strategy<Value = Decimal> {
    let finite = (any::<bool>(), prop_oneof![-3..3i32, any::<i32>()], vec(0..10u8, 0..6)).prop_map(
        |(negative, exponent, mut digits)| {
            while digits.last() == Some(&0) {
                digits.pop();
            }
            let zeroes = digits.iter().take_while(|digit| **digit == 0).count();
            digits.drain(..zeroes);
            if digits.is_empty() {
                return Decimal::Finite { negative: false, exponent: 0, digits };
            }
            Decimal::Finite { negative, exponent, digits }
        },
    );
    prop_oneof![
        8 => finite,
        1 => Just(Decimal::NaN),
        1 => any::<bool>().prop_map(|negative| Decimal::Infinity { negative })
    ]
}

fn element(kind: Kind) -> BoxedStrategy<Element> {
    let value = match kind {
        Kind::Int => int().prop_map(Element::Int).boxed(),
        Kind::Float => float().prop_map(Element::Float).boxed(),
        Kind::Bytes => bytes().prop_map(Element::Bytes).boxed(),
        Kind::Decimal => decimal().prop_map(Element::Decimal).boxed(),
    };
    prop_oneof![1 => Just(Element::Null), 9 => value].boxed()
}

fn put(out: &mut Vec<u8>, column: Column, element: &Element) {
    match element {
        Element::Null => put_null(out, column.nulls_first),
        Element::Int(value) => put_i64(out, *value, column.direction),
        Element::Float(value) => put_f64(out, *value, column.direction),
        Element::Bytes(value) => put_bytes(out, value, column.direction),
        Element::Decimal(value) => put_decimal(out, value, column.direction),
    }
}

fn compare_floats(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => left.partial_cmp(&right).expect("neither is NaN"),
    }
}

fn compare_decimals(left: &Decimal, right: &Decimal) -> Ordering {
    fn rank(value: &Decimal) -> i32 {
        match value {
            Decimal::Infinity { negative: true } => -2,
            Decimal::Finite { digits, .. } if digits.is_empty() => 0,
            Decimal::Finite { negative: true, .. } => -1,
            Decimal::Finite { negative: false, .. } => 1,
            Decimal::Infinity { negative: false } => 2,
            Decimal::NaN => 3,
        }
    }
    rank(left).cmp(&rank(right)).then_with(|| match (left, right) {
        (
            Decimal::Finite { negative, exponent, digits },
            Decimal::Finite { exponent: exponent2, digits: digits2, .. },
        ) => {
            let magnitude = exponent.cmp(exponent2).then_with(|| digits.cmp(digits2));
            if *negative { magnitude.reverse() } else { magnitude }
        }
        _ => Ordering::Equal,
    })
}

/// The order that SQL asks for.
fn compare(column: Column, left: &Element, right: &Element) -> Ordering {
    let nulls = if column.nulls_first { Ordering::Less } else { Ordering::Greater };
    let ascending = match (left, right) {
        (Element::Null, Element::Null) => return Ordering::Equal,
        (Element::Null, _) => return nulls,
        (_, Element::Null) => return nulls.reverse(),
        (Element::Int(left), Element::Int(right)) => left.cmp(right),
        (Element::Float(left), Element::Float(right)) => compare_floats(*left, *right),
        (Element::Bytes(left), Element::Bytes(right)) => left.cmp(right),
        (Element::Decimal(left), Element::Decimal(right)) => compare_decimals(left, right),
        _ => unreachable!("one column has one type"),
    };
    match column.direction {
        Direction::Asc => ascending,
        Direction::Desc => ascending.reverse(),
    }
}

type Tuple = Vec<Element>;

fn tuples() -> impl Strategy<Value = (Vec<Column>, Tuple, Tuple)> {
    vec(column(), 1..4).prop_flat_map(|columns| {
        let tuple = |columns: &[Column]| -> Vec<_> { columns.iter().map(|c| element(c.kind)).collect() };
        let (left, right) = (tuple(&columns), tuple(&columns));
        // Often equal in the first columns, so that later ones decide.
        let same = 0..=columns.len();
        (Just(columns), left, right, same).prop_map(|(columns, left, mut right, same)| {
            right[..same].clone_from_slice(&left[..same]);
            (columns, left, right)
        })
    })
}

fn encode(columns: &[Column], tuple: &[Element]) -> Vec<u8> {
    let mut out = Vec::new();
    for (column, element) in columns.iter().zip(tuple) {
        put(&mut out, *column, element);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn byte_order_is_value_order_without_prefixes((columns, left, right) in tuples()) {
        let order = columns
            .iter()
            .zip(left.iter().zip(&right))
            .map(|(column, (left, right))| compare(*column, left, right))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal);
        let (left, right) = (encode(&columns, &left), encode(&columns, &right));
        prop_assert_eq!(left.cmp(&right), order);
        if order.is_ne() {
            prop_assert!(!left.starts_with(&right) && !right.starts_with(&left));
        }
    }

    #[test]
    fn round_trip_and_skip((columns, tuple, _) in tuples()) {
        let encoded = encode(&columns, &tuple);
        let (mut taken, mut skipped) = (&encoded[..], &encoded[..]);
        for (column, element) in columns.iter().zip(&tuple) {
            let found = take(&mut taken).unwrap();
            prop_assert!(compare(*column, &found, element).is_eq(), "{:?} {:?}", found, element);
            skip(&mut skipped).unwrap();
            prop_assert_eq!(taken, skipped);
        }
        prop_assert!(taken.is_empty());
    }

    #[test]
    fn typed_readers_agree_with_take((columns, tuple, _) in tuples()) {
        let encoded = encode(&columns, &tuple);
        let mut input = &encoded[..];
        for _ in &tuple {
            let mut after = input;
            let element = take(&mut after).unwrap();
            let (mut int, mut float, mut bytes) = (input, input, input);
            match (take_i64(&mut int), take_f64(&mut float), take_bytes(&mut bytes)) {
                (Ok(Some(value)), Err(_), Err(_)) => {
                    prop_assert_eq!((element, int), (Element::Int(value), after));
                }
                (Err(_), Ok(Some(value)), Err(_)) => {
                    let Element::Float(expected) = element else { panic!("{element:?}") };
                    prop_assert_eq!((expected.to_bits(), float), (value.to_bits(), after));
                }
                (Err(_), Err(_), Ok(Some(value))) => {
                    prop_assert_eq!((element, bytes), (Element::Bytes(value.into_owned()), after));
                }
                (Err(_), Err(_), Err(_)) => prop_assert!(matches!(element, Element::Decimal(_))),
                (Ok(None), Ok(None), Ok(None)) => {
                    prop_assert_eq!((element, int, float, bytes), (Element::Null, after, after, after));
                }
                other => panic!("{other:?}"),
            }
            input = after;
        }
    }

    #[test]
    fn anything_that_decodes_is_what_would_be_encoded(garbage in vec(any::<u8>(), 0..24)) {
        let mut rest = &garbage[..];
        let taken = take(&mut rest);
        let mut skipped = &garbage[..];
        let skip_result = skip(&mut skipped);
        if let Ok(element) = taken {
            prop_assert!(skip_result.is_ok());
            prop_assert_eq!(rest, skipped);
            let used = &garbage[..garbage.len() - rest.len()];
            let desc = used[0] >= 0x80;
            let column = Column {
                kind: Kind::Int,
                direction: if desc { Direction::Desc } else { Direction::Asc },
                nulls_first: !desc,
            };
            let mut again = Vec::new();
            put(&mut again, column, &element);
            prop_assert_eq!(used, &again[..]);
        } else {
            prop_assert_eq!(rest, &garbage[..], "an error moves nothing");
        }
    }

    #[test]
    fn damage_is_an_error_or_another_value((columns, tuple, _) in tuples(), at: prop::sample::Index, bit in 0..8u8) {
        let mut encoded = encode(&columns, &tuple);
        let at = at.index(encoded.len());
        encoded[at] ^= 1 << bit;
        let mut rest = &encoded[..];
        while !rest.is_empty() && take(&mut rest).is_ok() {}
        let mut cut = &encoded[..at];
        while !cut.is_empty() && take(&mut cut).is_ok() {}
    }

    #[test]
    fn prefix_end_is_the_tightest_bound(prefix in vec(any::<u8>(), 0..4), key in vec(any::<u8>(), 0..6)) {
        let end = prefix_end(&prefix);
        let below = end.is_empty() || key < end;
        prop_assert_eq!(key >= prefix && below, key.starts_with(&prefix));
    }
}

#[test]
fn integers_are_short() {
    let len = |value| {
        let mut out = Vec::new();
        put_i64(&mut out, value, Direction::Asc);
        out.len()
    };
    for (value, expected) in [(0, 1), (79, 1), (-16, 1), (80, 2), (-17, 2), (255, 2), (256, 3), (-256, 2)] {
        assert_eq!(len(value), expected, "{value}");
    }
    assert_eq!((len(i64::MAX), len(i64::MIN), len(-257)), (9, 9, 3));
}
