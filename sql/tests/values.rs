//! Order, hash and keys of values; aggregates in one piece and merged from parts.

use cairn_kv::encoding::Direction;
use cairn_sql::batch::Column;
use cairn_sql::expr::EvalContext;
use cairn_sql::func::aggregate::all_aggregates;
use cairn_sql::types::key::{key_is_exact, put_key, take_key};
use cairn_sql::types::{Datum, Interval, Type, TypeKind, compare, hash, numeric, text_of};
use proptest::prelude::*;

fn numeric_value() -> impl Strategy<Value = Datum> {
    let text = prop_oneof![
        Just("NaN".to_owned()),
        Just("Infinity".to_owned()),
        Just("-Infinity".to_owned()),
        "-?[0-9]{1,3}(\\.[0-9]{0,3})?0*",
        "-?[0-9]{1,25}e-?[0-9]",
    ];
    text.prop_map(|t| Datum::numeric(numeric::parse(&t).unwrap().unwrap()))
}

/// Values of a type, close together so that equal ones occur.
fn values(kind: TypeKind) -> BoxedStrategy<Datum> {
    match kind {
        TypeKind::Bool => any::<bool>().prop_map(Datum::Bool).boxed(),
        TypeKind::Int2 => any::<i16>().prop_map(Datum::Int2).boxed(),
        TypeKind::Int4 => prop_oneof![any::<i32>(), -3..3].prop_map(Datum::Int4).boxed(),
        TypeKind::Int8 => prop_oneof![any::<i64>(), -300..300i64].prop_map(Datum::Int8).boxed(),
        TypeKind::Float4 => any::<f32>().prop_map(Datum::Float4).boxed(),
        TypeKind::Float8 => {
            prop_oneof![any::<f64>(), Just(0.0), Just(-0.0), Just(f64::NAN)].prop_map(Datum::Float8).boxed()
        }
        TypeKind::Numeric => numeric_value().boxed(),
        TypeKind::Text => "[a\u{0}é]{0,3}".prop_map(Datum::text).boxed(),
        TypeKind::Bpchar => "[a ]{0,4}".prop_map(Datum::text).boxed(),
        TypeKind::Bytea => proptest::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..4)
            .prop_map(|b| Datum::Bytea(b.into()))
            .boxed(),
        TypeKind::Date => any::<i32>().prop_map(Datum::Date).boxed(),
        TypeKind::Timestamp => any::<i64>().prop_map(Datum::Timestamp).boxed(),
        TypeKind::Interval => (-3..3i32, -40..40i32, -90_000_000_000..90_000_000_000i64)
            .prop_map(|(months, days, micros)| Datum::Interval(Interval { months, days, micros }))
            .boxed(),
        TypeKind::Uuid => any::<[u8; 16]>().prop_map(Datum::Uuid).boxed(),
        TypeKind::Oid => any::<u32>().prop_map(Datum::Oid).boxed(),
        TypeKind::Int4Array => {
            let item = prop_oneof![Just(Datum::Null), (-2..2i32).prop_map(Datum::Int4)];
            proptest::collection::vec(item, 0..3).prop_map(|i| Datum::array(TypeKind::Int4, i)).boxed()
        }
        other => panic!("no values of {other:?}"),
    }
}

const KINDS: &[TypeKind] = &[
    TypeKind::Bool,
    TypeKind::Int2,
    TypeKind::Int4,
    TypeKind::Int8,
    TypeKind::Float4,
    TypeKind::Float8,
    TypeKind::Numeric,
    TypeKind::Text,
    TypeKind::Bpchar,
    TypeKind::Bytea,
    TypeKind::Date,
    TypeKind::Timestamp,
    TypeKind::Interval,
    TypeKind::Uuid,
    TypeKind::Oid,
    TypeKind::Int4Array,
];

fn pair() -> impl Strategy<Value = (TypeKind, Datum, Datum)> {
    proptest::sample::select(KINDS).prop_flat_map(|kind| (Just(kind), values(kind), values(kind)))
}

fn key(value: &Datum, kind: TypeKind, direction: Direction) -> Vec<u8> {
    let mut out = Vec::new();
    put_key(&mut out, value, kind, direction, direction == Direction::Desc);
    out
}

fn shown(value: &Datum, kind: TypeKind) -> String {
    text_of(value, kind.into(), &EvalContext::constant().text).map_or("NULL".into(), |s| s.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// The order of keys is the order of values, both ways; equal values have equal keys and hashes.
    #[test]
    fn keys_order_like_values((kind, a, b) in pair()) {
        let order = compare(&a, &b, kind);
        prop_assert_eq!(order, compare(&b, &a, kind).reverse());
        prop_assert_eq!(key(&a, kind, Direction::Asc).cmp(&key(&b, kind, Direction::Asc)), order);
        prop_assert_eq!(key(&a, kind, Direction::Desc).cmp(&key(&b, kind, Direction::Desc)), order.reverse());
        if order.is_eq() {
            prop_assert_eq!(hash(&a, kind), hash(&b, kind));
        }
        let null = key(&Datum::Null, kind, Direction::Asc);
        prop_assert!(key(&a, kind, Direction::Asc) < null);
    }

    /// Keys give back the value: the same where they are exact, else an equal one.
    #[test]
    fn keys_decode((kind, a, _) in pair(), descending in any::<bool>()) {
        let direction = if descending { Direction::Desc } else { Direction::Asc };
        let bytes = key(&a, kind, direction);
        let mut input = bytes.as_slice();
        let back = take_key(&mut input, kind).unwrap();
        prop_assert!(input.is_empty());
        prop_assert!(compare(&a, &back, kind).is_eq());
        if key_is_exact(kind) {
            prop_assert_eq!(shown(&a, kind), shown(&back, kind));
        }
    }

    /// An aggregate over parts, merged, is the aggregate over the whole, for every signature.
    #[test]
    fn aggregates_merge(rows in proptest::collection::vec(-20..20i64, 0..20), cut in 0..20usize, null in 0..5i64) {
        let context = EvalContext::constant();
        for aggregate in all_aggregates() {
            let datum = |v: i64, kind: TypeKind| -> Datum {
                if v % 5 == null { return Datum::Null; }
                match kind {
                    TypeKind::Bool => Datum::Bool(v > 0),
                    TypeKind::Int2 => Datum::Int2(v as i16),
                    TypeKind::Int4 | TypeKind::Any | TypeKind::AnyElement => Datum::Int4(v as i32),
                    TypeKind::Int8 => Datum::Int8(v),
                    // Small whole numbers add up exactly in any order.
                    TypeKind::Float4 => Datum::Float4(v as f32),
                    TypeKind::Float8 => Datum::Float8(v as f64),
                    TypeKind::Numeric => Datum::numeric(v.into()),
                    TypeKind::Text | TypeKind::Bpchar => Datum::text(v.to_string()),
                    TypeKind::Date => Datum::Date(v as i32),
                    TypeKind::Time => Datum::Time(v + 100),
                    TypeKind::Timestamp | TypeKind::TimestampTz => Datum::Timestamp(v),
                    TypeKind::Interval => Datum::Interval(Interval { days: v as i32, ..Interval::default() }),
                    TypeKind::Oid => Datum::Oid((v + 100) as u32),
                    TypeKind::AnyArray => Datum::array(TypeKind::Int4, vec![Datum::Int4(v as i32)]),
                    other => panic!("no argument of {other:?}"),
                }
            };
            let concrete = |kind: TypeKind| match kind {
                TypeKind::Any | TypeKind::AnyElement => TypeKind::Int4,
                TypeKind::AnyArray => TypeKind::Int4Array,
                kind => kind,
            };
            let types: Vec<Type> = aggregate.args.iter().map(|k| concrete(*k).into()).collect();
            let run = |part: &[i64]| {
                let mut state = aggregate.accumulator(&types);
                state.resize(1);
                let columns: Vec<Column> = aggregate
                    .args
                    .iter()
                    .map(|k| {
                        let data: Vec<Datum> = part.iter().map(|v| datum(*v, *k)).collect();
                        Column::from_datums(concrete(*k), &data)
                    })
                    .collect();
                let columns: Vec<&Column> = columns.iter().collect();
                state.update_one(&context, &columns, part.len(), 0).unwrap();
                state
            };
            let cut = cut.min(rows.len());
            let whole = run(&rows).finish(0).unwrap();
            let mut merged = run(&rows[..cut]);
            merged.merge(0, &run(&rows[cut..]).partial(0)).unwrap();
            let merged = merged.finish(0).unwrap();
            // Deviations of floats may differ in the last digits.
            let close = match (&whole, &merged) {
                (Datum::Float8(a), Datum::Float8(b)) => (a - b).abs() <= a.abs() * 1e-12,
                (Datum::Null, Datum::Null) => true,
                (a, b) if !a.is_null() && !b.is_null() => compare(a, b, concrete(aggregate.result)).is_eq(),
                _ => false,
            };
            prop_assert!(close, "{}({:?}): {whole:?}, merged {merged:?}", aggregate.name, aggregate.args);
        }
    }
}
