//! Comparison of schemas: can what one peer writes be read by the other?

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use super::{
    Field, MethodSchema, Shape, TypeRef, Variant, VariantContent,
    incompatibility::{Incompatibility, Part, Reason},
    path::{self, Path, Segment},
    text,
};

/// Types, fields and variants that are looked at, so that schemas of a hostile peer take little
/// time.
const STEPS_MAX: usize = 1 << 18;

impl MethodSchema {
    /// Whether a caller and a server of these schemas understand each other in the encoding with
    /// names: the request is written by the caller and read by the server, the reply and the error
    /// the other way round. See the [module](super) for what is compatible.
    ///
    /// Schemas of equal hashes are compatible, unless they
    /// [need the encoding with names](Self::needs_named_encoding): a type that is written with
    /// other names than it is read with does then not understand itself, nor does an option of an
    /// option or of `()`, of which `Some(None)` and `Some(())` are read as `None`.
    ///
    /// # Errors
    ///
    /// [`Incompatibility`] that says where the types differ, and how.
    pub fn check_compatible(caller: &Self, server: &Self) -> Result<(), Incompatibility> {
        check(caller, server)
    }
}

fn check(caller: &MethodSchema, server: &MethodSchema) -> Result<(), Incompatibility> {
    let (asks, answers) = (caller.table(), server.table());
    if asks == answers && !caller.needs_named_encoding() {
        return Ok(());
    }
    let request = (asks.request, answers.request);
    Comparison::new(Part::Request, caller, server).run(request)?;
    let reply = (answers.reply, asks.reply);
    Comparison::new(Part::Reply, server, caller).run(reply)?;
    // A side without a type for its errors writes none, and reads no more than their status.
    if let (Some(written), Some(read)) = (answers.error, asks.error) {
        Comparison::new(Part::Error, server, caller).run((written, read))?;
    }
    Ok(())
}

/// Comparison of one part of a method, breadth first, so that the shortest path is found.
struct Comparison<'a> {
    part: Part,
    writer: &'a MethodSchema,
    reader: &'a MethodSchema,
    /// Pairs of types that were found. Until their comparison shows otherwise they are compatible,
    /// as types may contain themselves.
    found: HashSet<(TypeRef, TypeRef)>,
    pending: VecDeque<Place>,
    paths: Vec<Path<'a>>,
    steps: usize,
}

/// Two types and where they are.
#[derive(Clone, Copy)]
struct Place {
    written: TypeRef,
    read: TypeRef,
    path: Option<usize>,
}

type Compared = Result<(), Incompatibility>;

impl<'a> Comparison<'a> {
    fn new(part: Part, writer: &'a MethodSchema, reader: &'a MethodSchema) -> Self {
        Self {
            part,
            writer,
            reader,
            found: HashSet::new(),
            pending: VecDeque::new(),
            paths: Vec::new(),
            steps: 0,
        }
    }

    fn run(mut self, (written, read): (TypeRef, TypeRef)) -> Compared {
        self.compare_later(written, read, None);
        while let Some(place) = self.pending.pop_front() {
            self.step(1)?;
            self.check_option_of_nil(place)?;
            self.compare(place)?;
        }
        Ok(())
    }

    fn compare_later(&mut self, written: TypeRef, read: TypeRef, path: Option<usize>) {
        if self.found.insert((written, read)) {
            let place = Place {
                written,
                read,
                path,
            };
            self.pending.push_back(place);
        }
    }

    fn check_option_of_nil(&self, place: Place) -> Compared {
        let is_option_of_nil = is_option_of_nil(self.writer, place.written)
            || is_option_of_nil(self.reader, place.read);
        let describes_itself = [
            self.writer.table().shape(place.written),
            self.reader.table().shape(place.read),
        ]
        .contains(&&Shape::SelfDescribing);
        if is_option_of_nil && !describes_itself {
            let types = (self.written_text(place.written), self.read_text(place.read));
            return Err(self.error(Reason::OptionOfNil, place.path, types));
        }
        Ok(())
    }

    fn compare(&mut self, place: Place) -> Compared {
        let Place {
            written,
            read,
            path,
        } = place;
        match (
            self.writer.table().shape(written),
            self.reader.table().shape(read),
        ) {
            (Shape::SelfDescribing, _) | (_, Shape::SelfDescribing) => {}
            (Shape::Option(written), Shape::Option(read)) => {
                self.compare_later(*written, *read, path);
            }
            // The one type whose values cannot be told from `None`.
            (Shape::Unit, Shape::Option(_)) | (Shape::Option(_), Shape::Unit) => {
                return Err(self.different(place));
            }
            (_, Shape::Option(read)) => self.compare_later(written, *read, path),
            (Shape::Option(written), _) => self.compare_later(*written, read, path),
            (Shape::Sequence(written), Shape::Sequence(read)) => {
                let path = self.path(path, Segment::Items);
                self.compare_later(*written, *read, path);
            }
            (
                Shape::Map { key, value },
                Shape::Map {
                    key: read_key,
                    value: read_value,
                },
            ) => {
                let key_path = self.path(path, Segment::Keys);
                self.compare_later(*key, *read_key, key_path);
                let value_path = self.path(path, Segment::Values);
                self.compare_later(*value, *read_value, value_path);
            }
            (Shape::Tuple(written), Shape::Tuple(read)) if written.len() == read.len() => {
                self.compare_tuples(written, read, path)?;
            }
            (
                Shape::Struct { fields, .. },
                Shape::Struct {
                    fields: read,
                    denies_unknown_fields,
                },
            ) => self.compare_fields(fields, read, *denies_unknown_fields, path)?,
            (
                Shape::Enum { variants, .. },
                Shape::Enum {
                    variants: read,
                    denies_unknown_fields,
                },
            ) => self.compare_variants(variants, read, *denies_unknown_fields, place)?,
            (written, read) if are_compatible_leaves(written, read) => {}
            _ => return Err(self.different(place)),
        }
        Ok(())
    }

    fn compare_tuples(
        &mut self,
        written: &[TypeRef],
        read: &[TypeRef],
        path: Option<usize>,
    ) -> Compared {
        self.step(written.len())?;
        for (index, (written, read)) in written.iter().zip(read).enumerate() {
            if !self.found.contains(&(*written, *read)) {
                let path = self.path(path, Segment::Index(index));
                self.compare_later(*written, *read, path);
            }
        }
        Ok(())
    }

    fn compare_fields(
        &mut self,
        written: &'a [Field],
        read: &'a [Field],
        denies_unknown_fields: bool,
        path: Option<usize>,
    ) -> Compared {
        self.step(written.len() + read.iter().map(|field| 1 + field.read.len()).sum::<usize>())?;
        let by_name = by_name(read.iter().map(|field| &field.read));
        // Name that each field of the reader was found with.
        let mut found: Vec<Option<&str>> = vec![None; read.len()];
        for field in written {
            let Some(name) = &field.written else {
                continue;
            };
            let path = self.path(path, Segment::Field(name));
            let Some(&index) = by_name.get(name.as_str()) else {
                if denies_unknown_fields {
                    let types = (self.written_text(field.ty), NOTHING.to_owned());
                    return Err(self.error(Reason::Denied, path, types));
                }
                continue;
            };
            if let Some(before) = found[index].replace(name) {
                let written = text::name_list([before, name].into_iter());
                let types = (written, self.read_text(read[index].ty));
                return Err(self.error(Reason::WrittenTwice, path, types));
            }
            self.compare_later(field.ty, read[index].ty, path);
        }
        for (field, found) in read.iter().zip(found) {
            if let (None, false, Some(name)) = (found, field.is_optional, field.read.first()) {
                let path = self.path(path, Segment::Field(name));
                let types = (NOTHING.to_owned(), self.read_text(field.ty));
                return Err(self.error(Reason::NotWritten, path, types));
            }
        }
        Ok(())
    }

    fn compare_variants(
        &mut self,
        written: &'a [Variant],
        read: &'a [Variant],
        denies_unknown_fields: bool,
        place: Place,
    ) -> Compared {
        let names = read.iter().map(|variant| 1 + variant.read.len());
        self.step(written.len() + names.sum::<usize>())?;
        let by_name = by_name(read.iter().map(|variant| &variant.read));
        let has_other = read.iter().any(|variant| variant.is_other);
        let mut is_any_written = false;
        let mut is_any_shared = false;
        for variant in written {
            let Some(name) = &variant.written else {
                continue;
            };
            is_any_written = true;
            // A variant that the reader lacks fails when it is read: it may never be written.
            if let Some(&index) = by_name.get(name.as_str()) {
                is_any_shared = true;
                let path = self.path(place.path, Segment::Variant(name));
                self.compare_contents(variant, &read[index], denies_unknown_fields, path)?;
            }
        }
        if is_any_written && !is_any_shared && !has_other {
            let written = written
                .iter()
                .filter_map(|variant| variant.written.as_deref());
            let read = read.iter().filter_map(|variant| variant.read.first());
            let read = read.map(String::as_str);
            let names = (text::name_list(written), text::name_list(read));
            return Err(self.error(Reason::NoSharedVariant, place.path, names));
        }
        Ok(())
    }

    fn compare_contents(
        &mut self,
        written: &'a Variant,
        read: &'a Variant,
        denies_unknown_fields: bool,
        path: Option<usize>,
    ) -> Compared {
        match (&written.content, &read.content) {
            (VariantContent::Unit, VariantContent::Unit) => Ok(()),
            (VariantContent::Newtype(written), VariantContent::Newtype(read)) => {
                self.compare_later(*written, *read, path);
                Ok(())
            }
            (VariantContent::Tuple(written), VariantContent::Tuple(read))
                if written.len() == read.len() =>
            {
                self.compare_tuples(written, read, path)
            }
            (VariantContent::Struct(written), VariantContent::Struct(read)) => {
                self.compare_fields(written, read, denies_unknown_fields, path)
            }
            (written, read) => {
                let written = text::content_text(self.writer, written);
                let read = text::content_text(self.reader, read);
                Err(self.error(Reason::Types, path, (written, read)))
            }
        }
    }

    fn step(&mut self, count: usize) -> Compared {
        self.steps = self.steps.saturating_add(count);
        if self.steps > STEPS_MAX {
            let nothing = (NOTHING.to_owned(), NOTHING.to_owned());
            return Err(self.error(Reason::TooManyTypes, None, nothing));
        }
        Ok(())
    }

    fn path(&mut self, parent: Option<usize>, segment: Segment<'a>) -> Option<usize> {
        self.paths.push(Path { parent, segment });
        Some(self.paths.len() - 1)
    }

    fn different(&self, place: Place) -> Incompatibility {
        let types = (self.written_text(place.written), self.read_text(place.read));
        self.error(Reason::Types, place.path, types)
    }

    fn written_text(&self, ty: TypeRef) -> String {
        text::type_text(self.writer, ty)
    }

    fn read_text(&self, ty: TypeRef) -> String {
        text::type_text(self.reader, ty)
    }

    fn error(
        &self,
        reason: Reason,
        path: Option<usize>,
        types: (String, String),
    ) -> Incompatibility {
        let path = path::path_text(&self.paths, path);
        Incompatibility::new(reason, self.part, path, types)
    }
}

const NOTHING: &str = "nothing";

/// Position of the field or variant that is read by a name.
fn by_name<'a>(names: impl Iterator<Item = &'a Vec<String>>) -> HashMap<&'a str, usize> {
    let mut positions = HashMap::new();
    for (position, names) in names.enumerate() {
        for name in names {
            positions.entry(name.as_str()).or_insert(position);
        }
    }
    positions
}

/// Whether the encoding with names reads a `Some` of the type as `None`.
fn is_option_of_nil(schema: &MethodSchema, ty: TypeRef) -> bool {
    let table = schema.table();
    match table.shape(ty) {
        Shape::Option(inner) => matches!(table.shape(*inner), Shape::Option(_) | Shape::Unit),
        _ => false,
    }
}

/// Whether types that are made of no others are compatible.
fn are_compatible_leaves(written: &Shape, read: &Shape) -> bool {
    let is_integer = |shape: &Shape| match shape {
        Shape::Unsigned { bits } | Shape::Signed { bits } => *bits <= 64,
        _ => false,
    };
    match (written, read) {
        (Shape::Float { .. }, Shape::Float { .. })
        | (Shape::Bool, Shape::Bool)
        | (Shape::Char, Shape::Char)
        | (Shape::String, Shape::String)
        | (Shape::Bytes, Shape::Bytes)
        | (Shape::Unit, Shape::Unit) => true,
        // Of 128 bits, as others are integers of any width.
        (Shape::Unsigned { bits }, Shape::Unsigned { bits: read_bits })
        | (Shape::Signed { bits }, Shape::Signed { bits: read_bits })
            if bits == read_bits =>
        {
            true
        }
        (Shape::Opaque { .. }, Shape::Opaque { .. }) => written == read,
        _ => is_integer(written) && is_integer(read),
    }
}
