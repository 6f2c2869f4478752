//! Parts of Markdown texts that commands read: code, links, headings and tables.

use std::ops::Range;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

/// The parts of a text. Lines are counted from 1.
#[derive(Debug, Default)]
pub(crate) struct Markdown {
    /// Code spans, and the lines of code blocks, each with its line.
    pub(crate) code: Vec<(usize, String)>,
    /// Lines of each code block, with its fences.
    pub(crate) blocks: Vec<Range<usize>>,
    /// Targets of links and images, each with its line.
    pub(crate) links: Vec<(usize, String)>,
    /// Texts of the headings, without marks.
    pub(crate) headings: Vec<String>,
    /// Rows of each table, its header first.
    pub(crate) tables: Vec<Vec<Row>>,
}

#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) line: usize,
    pub(crate) cells: Vec<Cell>,
}

#[derive(Debug, Default)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) code: Vec<String>,
}

/// Element that text belongs to.
#[derive(Clone, Copy)]
enum Element {
    Paragraph,
    CodeBlock,
    Heading,
    Cell,
}

impl Markdown {
    /// Reads the parts of `text`, with tables as GitHub has them.
    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        let starts: Vec<_> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let line_at = |byte: usize| starts.partition_point(|start| *start <= byte) + 1;
        let parser = Parser::new_ext(text, Options::ENABLE_TABLES);
        for (_, definition) in parser.reference_definitions().iter() {
            let target = definition.dest.to_string();
            found.links.push((line_at(definition.span.start), target));
        }
        let mut element = Element::Paragraph;
        for (event, range) in parser.into_offset_iter() {
            let line = line_at(range.start);
            match event {
                Event::Start(tag) => {
                    element = found
                        .start(tag, line, line_at(range.end - 1))
                        .unwrap_or(element);
                }
                Event::End(TagEnd::CodeBlock | TagEnd::Heading(_) | TagEnd::TableCell) => {
                    element = Element::Paragraph;
                }
                Event::Text(text) => found.text(element, line, &text),
                Event::Code(code) => {
                    found.code.push((line, code.to_string()));
                    found.text(element, line, &code);
                    if let (Element::Cell, Some(cell)) = (element, found.cell()) {
                        cell.code.push(code.to_string());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Reads a document, or those comments of a source that begin with one of `marks`; other files
    /// have no Markdown.
    pub(crate) fn of_file(path: &str, text: &str, marks: &[&str]) -> Option<Self> {
        let comment = |line: &str| {
            let mut texts = marks
                .iter()
                .filter_map(|mark| line.trim_start().strip_prefix(mark));
            texts.next().unwrap_or_default().trim_start().to_owned() + "\n"
        };
        match path.rsplit_once('.')?.1 {
            "md" => Some(Self::parse(text)),
            "rs" => Some(Self::parse(&text.lines().map(comment).collect::<String>())),
            _ => None,
        }
    }

    /// Records what begins on a line; the element of the texts that follow, if it is a new one.
    fn start(&mut self, tag: Tag<'_>, line: usize, last: usize) -> Option<Element> {
        match tag {
            Tag::CodeBlock(_) => {
                self.blocks.push(line..last + 1);
                return Some(Element::CodeBlock);
            }
            Tag::Heading { .. } => {
                self.headings.push(String::new());
                return Some(Element::Heading);
            }
            Tag::Table(_) => self.tables.push(Vec::new()),
            Tag::TableHead | Tag::TableRow => {
                let row = Row {
                    line,
                    cells: Vec::new(),
                };
                self.tables.last_mut()?.push(row);
            }
            Tag::TableCell => {
                self.tables
                    .last_mut()?
                    .last_mut()?
                    .cells
                    .push(Cell::default());
                return Some(Element::Cell);
            }
            Tag::Link {
                link_type: LinkType::Inline,
                dest_url,
                ..
            }
            | Tag::Image {
                link_type: LinkType::Inline,
                dest_url,
                ..
            } => {
                self.links.push((line, dest_url.to_string()));
            }
            _ => {}
        }
        None
    }

    fn text(&mut self, element: Element, line: usize, text: &str) {
        match element {
            Element::Paragraph => {}
            Element::CodeBlock => {
                self.code
                    .extend((line..).zip(text.lines().map(str::to_owned)));
            }
            Element::Heading => self.headings.last_mut().expect("it began").push_str(text),
            Element::Cell => self.cell().expect("it began").text.push_str(text),
        }
    }

    fn cell(&mut self) -> Option<&mut Cell> {
        self.tables.last_mut()?.last_mut()?.cells.last_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_their_lines() {
        let text = "# What `b` is\n\nSee [a](b.md), `cargo\ntest` and\n![c](c.svg).\n\n\
            ```sh\ncargo build\n```\n\n[d]: e.md\n";
        let found = Markdown::parse(text);
        assert_eq!(found.headings, ["What b is"]);
        let code = [(1, "b"), (3, "cargo test"), (8, "cargo build")];
        assert_eq!(found.code, code.map(|(line, code)| (line, code.to_owned())));
        assert_eq!(found.blocks[0], 7..10);
        let links = [(11, "e.md"), (3, "b.md"), (5, "c.svg")];
        assert_eq!(found.links, links.map(|(line, to)| (line, to.to_owned())));
    }

    #[test]
    fn comments_of_a_source_have_its_lines() {
        let code = "//! See `a`.\nfn b() {}\n    /// And `c`\n    // and `d`.\n";
        let found = Markdown::of_file("a.rs", code, &["///", "//!"]).unwrap();
        let expected = [(1, "a"), (3, "c")];
        assert_eq!(
            found.code,
            expected.map(|(line, code)| (line, code.to_owned()))
        );
        assert!(Markdown::of_file("a.toml", code, &["//"]).is_none());
    }

    #[test]
    fn cells_have_their_text_and_their_code() {
        let found = Markdown::parse("a\n\n| x | y |\n|---|---|\n| `c` of d | **4** |\n\nb\n");
        let [header, row] = &found.tables[0][..] else {
            panic!("{found:?}");
        };
        assert_eq!((header.line, row.line), (3, 5));
        assert_eq!(
            (row.cells[0].text.as_str(), row.cells[1].text.as_str()),
            ("c of d", "4")
        );
        assert_eq!(row.cells[0].code, ["c"]);
    }
}
