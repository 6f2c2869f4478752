//! Method numbers of a lane: each method name is sent once.

use std::collections::HashMap;

use crate::{
    RpcError,
    codec::Encoding,
    method::{CalledMethod, MethodKey, TypedCall},
    wire::CallSchema,
};

/// Methods of one lane and their numbers, in the order of their first call.
#[derive(Debug, Default)]
pub(super) struct MethodNumbers {
    methods: Vec<NumberedMethod>,
    /// Index for many methods; empty while a linear search is faster. Calls of one name with
    /// several schemas have several numbers.
    numbers: HashMap<Box<str>, Vec<u16>>,
    last: u16,
}

/// A method that has a number.
#[derive(Debug)]
struct NumberedMethod {
    name: Box<str>,
    /// The types of its calls and how they are encoded, if they are typed.
    typed: Option<(MethodKey, Encoding)>,
}

/// Number of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodNumber {
    Known(u16),
    /// First use: the server has to be told the name, and the schema of a typed method.
    New(u16, Option<CallSchema>),
}

/// Reason for which a method gets no number.
#[derive(Debug)]
pub(super) enum NoNumber {
    /// The lane has the most methods that it may have.
    Full,
    /// The types of the method need another encoding.
    WrongEncoding(RpcError),
}

impl MethodNumbers {
    /// Number of a method. `has_schemas`: the server knows schemas.
    #[inline]
    pub(super) fn number(
        &mut self,
        method: CalledMethod<'_>,
        has_schemas: bool,
    ) -> Result<MethodNumber, NoNumber> {
        // Callers tend to repeat the same method.
        let last = self.methods.get(usize::from(self.last));
        if last.is_some_and(|last| last.is_method(&method)) {
            return Ok(MethodNumber::Known(self.last));
        }
        self.other_number(method, has_schemas)
    }

    fn other_number(
        &mut self,
        method: CalledMethod<'_>,
        has_schemas: bool,
    ) -> Result<MethodNumber, NoNumber> {
        if let Some(number) = self.find(&method) {
            self.last = number;
            return Ok(MethodNumber::Known(number));
        }
        if self.methods.len() >= LANE_METHODS_MAX {
            return Err(NoNumber::Full);
        }
        let schema = method.typed.as_ref().map(TypedCall::schema).transpose();
        let schema = schema.map_err(NoNumber::WrongEncoding)?;
        let schema = schema.filter(|_| has_schemas);
        let number = self.methods.len() as u16;
        self.methods.push(NumberedMethod::new(&method));
        if self.methods.len() == LINEAR_SEARCH_MAX {
            for (number, method) in (0..).zip(&self.methods) {
                let numbers = self.numbers.entry(method.name.clone());
                numbers.or_default().push(number);
            }
        } else if self.methods.len() > LINEAR_SEARCH_MAX {
            let numbers = self.numbers.entry(method.name.into());
            numbers.or_default().push(number);
        }
        self.last = number;
        Ok(MethodNumber::New(number, schema))
    }

    fn find(&self, method: &CalledMethod<'_>) -> Option<u16> {
        if self.methods.len() >= LINEAR_SEARCH_MAX {
            let mut numbers = self.numbers.get(method.name)?.iter().copied();
            return numbers.find(|n| self.methods[usize::from(*n)].is_method(method));
        }
        let mut methods = self.methods.iter();
        let at = methods.position(|known| known.is_method(method))?;
        Some(at as u16)
    }
}

impl NumberedMethod {
    fn new(method: &CalledMethod<'_>) -> Self {
        Self {
            name: method.name.into(),
            typed: key_of(method),
        }
    }

    #[inline]
    fn is_method(&self, method: &CalledMethod<'_>) -> bool {
        *self.name == *method.name && self.typed == key_of(method)
    }
}

#[inline]
fn key_of(method: &CalledMethod<'_>) -> Option<(MethodKey, Encoding)> {
    let typed = method.typed.as_ref()?;
    Some((typed.method.key(), typed.encoding))
}

/// Most methods of one lane; calls of further ones have streams of their own. It bounds the
/// server's memory.
pub(crate) const LANE_METHODS_MAX: usize = 1_024;

/// Most names that are compared one by one.
const LINEAR_SEARCH_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, UntypedMethod};

    #[test]
    fn a_name_keeps_its_number_however_many_there_are() {
        let mut methods = MethodNumbers::default();
        let names: Vec<String> = (0..LANE_METHODS_MAX)
            .map(|n| format!("method-{n}"))
            .collect();
        let mut number_of = |name: &str| methods.number(CalledMethod::untyped(name), true).ok();
        for round in 0..2 {
            for (number, name) in (0u16..).zip(&names) {
                let expected = if round == 0 {
                    MethodNumber::New(number, None)
                } else {
                    MethodNumber::Known(number)
                };
                assert_eq!(number_of(name), Some(expected), "{name}");
                let known = MethodNumber::Known(number);
                assert_eq!(number_of(name), Some(known), "{name}");
            }
        }
        assert_eq!(number_of("one more"), None);
    }

    #[test]
    fn calls_of_one_name_with_other_types_or_another_encoding_have_a_number_of_their_own() {
        const SQUARE: Method<u64, u64> = Method::new("square");
        const TEXT: Method<String, u64> = Method::new("square");
        let mut methods = MethodNumbers::default();
        let typed = |method: UntypedMethod, encoding| CalledMethod {
            name: method.name(),
            typed: Some(TypedCall::unchecked(method, encoding)),
        };
        let square = SQUARE.untyped();
        let calls = [
            CalledMethod::untyped("square"),
            typed(square, Encoding::Postcard),
            typed(square, Encoding::Named),
            typed(TEXT.untyped(), Encoding::Postcard),
        ];
        for (number, call) in (0..).zip(&calls) {
            let new = methods.number(*call, true).unwrap();
            let schema = call.typed.map(|typed| typed.schema().unwrap());
            assert_eq!(new, MethodNumber::New(number, schema), "{call:?}");
        }
        for other in 0..20 {
            let name = format!("other-{other}");
            methods.number(CalledMethod::untyped(&name), true).unwrap();
        }
        for (number, call) in (0..).zip(&calls) {
            let known = methods.number(*call, true).unwrap();
            assert_eq!(known, MethodNumber::Known(number), "{call:?}");
        }
    }

    #[test]
    fn a_server_that_knows_no_schemas_gets_none() {
        const SQUARE: Method<u64, u64> = Method::new("square");
        let mut methods = MethodNumbers::default();
        let call = CalledMethod {
            name: SQUARE.name(),
            typed: Some(TypedCall::unchecked(SQUARE.untyped(), Encoding::Postcard)),
        };
        let number = methods.number(call, false).unwrap();
        assert_eq!(number, MethodNumber::New(0, None));
    }
}
