//! Type names.

use super::Parser;
use super::keyword;
use super::lex::Kind;
use crate::ast::TypeName;
use crate::error::{Result, SqlError, SqlState};

impl Parser<'_> {
    /// A type, with modifiers and `[]`.
    pub(super) fn type_name(&mut self) -> Result<TypeName> {
        let mut ty = self.simple_type_name()?;
        self.array_suffix(&mut ty)?;
        Ok(ty)
    }

    fn array_suffix(&mut self, ty: &mut TypeName) -> Result<()> {
        if self.eat_word("array")? {
            ty.array = true;
            if self.eat("[")? {
                self.signed_integer()?;
                self.expect("]")?;
            }
        }
        while self.eat("[")? {
            ty.array = true;
            if !self.is("]") {
                self.signed_integer()?;
            }
            self.expect("]")?;
        }
        Ok(())
    }

    /// A type without `[]`: what may precede a string constant.
    pub(super) fn simple_type_name(&mut self) -> Result<TypeName> {
        let position = self.token.start;
        let make = |name: &str, modifiers| TypeName {
            schema: None,
            name: name.to_owned(),
            modifiers,
            array: false,
            position,
        };
        if self.token.kind == Kind::Word {
            let word = self.text().to_ascii_lowercase();
            if self.eat_word("setof")? {
                return Err(SqlError::unsupported("SETOF").at(position));
            }
            let plain = match word.as_str() {
                "int" | "integer" => Some("int4"),
                "smallint" => Some("int2"),
                "bigint" => Some("int8"),
                "real" => Some("float4"),
                "boolean" => Some("bool"),
                _ => None,
            };
            if let Some(name) = plain {
                self.advance()?;
                return Ok(make(name, Vec::new()));
            }
            match word.as_str() {
                "double" if self.peek_is_word(1, "precision")? => {
                    self.advance()?;
                    self.advance()?;
                    return Ok(make("float8", Vec::new()));
                }
                "float" => {
                    self.advance()?;
                    return match self.modifiers()?.as_slice() {
                        [] => Ok(make("float8", Vec::new())),
                        [1..=24] => Ok(make("float4", Vec::new())),
                        [25..=53] => Ok(make("float8", Vec::new())),
                        [..=0] => Err(SqlError::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            "precision for type float must be at least 1 bit",
                        )
                        .at(position)),
                        _ => Err(SqlError::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            "precision for type float must be less than 54 bits",
                        )
                        .at(position)),
                    };
                }
                "decimal" | "dec" | "numeric" => {
                    self.advance()?;
                    let modifiers = self.modifiers()?;
                    return Ok(make("numeric", modifiers));
                }
                "character" | "char" | "nchar" | "national" | "varchar" => {
                    self.advance()?;
                    if word == "national" {
                        if !self.is_any(&["character", "char"]) {
                            return Err(self.unexpected());
                        }
                        self.advance()?;
                    }
                    let varying = self.eat_word("varying")? || word == "varchar";
                    let mut modifiers = self.modifiers()?;
                    if !varying && modifiers.is_empty() {
                        modifiers.push(1);
                    }
                    return Ok(make(if varying { "varchar" } else { "bpchar" }, modifiers));
                }
                "bit" => return Err(SqlError::unsupported("type bit").at(position)),
                "time" | "timestamp" => {
                    self.advance()?;
                    let modifiers = self.modifiers()?;
                    let zone = if self.eat_words(&["with", "time", "zone"])? {
                        true
                    } else {
                        self.eat_words(&["without", "time", "zone"])?;
                        false
                    };
                    let name = format!("{word}{}", if zone { "tz" } else { "" });
                    return Ok(make(&name, modifiers));
                }
                "interval" => {
                    self.advance()?;
                    let modifiers = self.modifiers()?;
                    return Ok(make("interval", modifiers));
                }
                _ => {}
            }
        }
        let first = self.ident_if(keyword::is_function_name)?;
        let name = self.object_name_after(first)?;
        let modifiers = self.modifiers()?;
        Ok(TypeName { schema: name.schema, name: name.name, modifiers, array: false, position })
    }

    fn modifiers(&mut self) -> Result<Vec<i32>> {
        if !self.is("(") {
            return Ok(Vec::new());
        }
        self.parenthesized(|p| {
            let value = p.signed_integer()?;
            i32::try_from(value).map_err(|_| p.unexpected())
        })
    }

    /// The fields of an interval's type: `INTERVAL '1' DAY`, `INTERVAL '1:2' HOUR TO MINUTE`.
    pub(super) fn interval_fields(&mut self) -> Result<Option<String>> {
        const FIELDS: &[&str] = &["year", "month", "day", "hour", "minute", "second"];
        if !self.is_any(FIELDS) {
            return Ok(None);
        }
        let first = self.text().to_ascii_lowercase();
        self.advance()?;
        if self.is_word("to") {
            return Err(SqlError::unsupported("an interval literal with two fields").at(self.token.start));
        }
        Ok(Some(first))
    }
}
