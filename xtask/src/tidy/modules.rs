//! Modules of a crate: the types that they define, and the files that their `use` declarations
//! lead to.
//!
//! Names are written as absolute paths, `crate::module::Name`. Modules are known by the paths of
//! their files.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens as _;
use syn::{Attribute, Ident, Item, ItemUse, UseTree, Visibility};

use super::workspace::Workspace;

/// The modules of a crate that are compiled without `cfg(test)`.
#[derive(Debug, Default)]
pub(super) struct Modules<'a> {
    /// Names of the types, each with its file and line.
    pub(super) types: Vec<(String, String)>,
    /// The file of each module and of each item.
    modules: BTreeMap<String, &'a str>,
    items: BTreeMap<String, &'a str>,
    /// Path that each imported name stands for.
    imports: BTreeMap<String, String>,
    /// Modules of which a module imports all names.
    globs: BTreeMap<String, Vec<String>>,
    /// Private `use` declarations (module, path). Re-exports are no dependence of their module.
    uses: Vec<(String, String)>,
}

/// The modules of each published crate.
pub(super) fn of_crates(workspace: &Workspace) -> Vec<Modules<'_>> {
    let folders = workspace.published_folders();
    folders
        .map(|folder| Modules::read(folder, workspace))
        .collect()
}

impl<'a> Modules<'a> {
    fn read(folder: &str, workspace: &'a Workspace) -> Self {
        let files = workspace.modules_in(folder).map(|(module, path)| {
            let module = module.trim_end_matches(".rs");
            let module = match module.strip_suffix("/mod").unwrap_or(module) {
                "lib" => "crate".to_owned(),
                module => format!("crate::{}", module.replace('/', "::")),
            };
            (module, path, &workspace.syntax[path].items)
        });
        let files: Vec<_> = files.collect();
        let of_tests = files.iter().flat_map(|(module, _, items)| {
            items.iter().filter_map(|item| match item {
                Item::Mod(it) if is_test(&it.attrs) => Some(join(module, &it.ident.to_string())),
                _ => None,
            })
        });
        let of_tests: BTreeSet<_> = of_tests.collect();
        let mut found = Self::default();
        for (module, path, items) in files {
            if !enclosing(&module).any(|module| of_tests.contains(module)) {
                found.read_items(&module, path, items);
            }
        }
        found
    }

    fn read_items(&mut self, module: &str, file: &'a str, items: &[Item]) {
        self.modules.insert(module.to_owned(), file);
        for item in items {
            let (name, attributes, is_type) = match item {
                Item::Mod(it) => (&it.ident, &it.attrs, false),
                Item::Struct(it) => (&it.ident, &it.attrs, true),
                Item::Enum(it) => (&it.ident, &it.attrs, true),
                Item::Union(it) => (&it.ident, &it.attrs, true),
                Item::Trait(it) => (&it.ident, &it.attrs, true),
                Item::Type(it) => (&it.ident, &it.attrs, true),
                Item::Fn(it) => (&it.sig.ident, &it.attrs, false),
                Item::Const(it) => (&it.ident, &it.attrs, false),
                Item::Static(it) => (&it.ident, &it.attrs, false),
                Item::Use(it) => {
                    if !is_test(&it.attrs) {
                        self.read_use(module, it);
                    }
                    continue;
                }
                _ => continue,
            };
            if is_test(attributes) {
                continue;
            }
            let path = join(module, &name.to_string());
            if let Item::Mod(it) = item {
                let items = it.content.iter();
                items.for_each(|(_, items)| self.read_items(&path, file, items));
                continue;
            }
            self.items.insert(path, file);
            if is_type {
                let line = name.span().start().line;
                self.types
                    .push((name.to_string(), format!("{file}:{line}")));
            }
        }
    }

    fn read_use(&mut self, module: &str, item: &ItemUse) {
        for (name, path) in imported_names(&item.tree, "") {
            if matches!(item.vis, Visibility::Inherited) {
                self.uses.push((module.to_owned(), path.clone()));
            }
            match name {
                Some(name) => drop(self.imports.insert(join(module, &name), path)),
                None => self.globs.entry(module.to_owned()).or_default().push(path),
            }
        }
    }

    /// For each file, the other files whose items it imports. Imports from a module that encloses
    /// the file are left out: a child module extends what its parent defines.
    pub(super) fn imports(&self) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
        let mut imports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (module, path) in &self.uses {
            let mut enclosing = enclosing(module).filter_map(|module| self.modules.get(module));
            if let Some(file) = self.file_of(module, path, 0)
                && enclosing.all(|enclosing| *enclosing != file)
            {
                imports
                    .entry(self.modules[module])
                    .or_default()
                    .insert(file);
            }
        }
        imports
    }

    /// The file that defines what a path names, seen from a module; `None` for other crates.
    fn file_of(&self, module: &str, path: &str, depth: usize) -> Option<&'a str> {
        let (first, rest) = path.split_once("::").unwrap_or((path, ""));
        let path = match first {
            "crate" => path.to_owned(),
            "self" => join(module, rest),
            "super" => {
                return self.file_of(module.rsplit_once("::")?.0, &join("self", rest), depth);
            }
            _ => join(module, path),
        };
        if let Some(file) = self.items.get(&path).or_else(|| self.modules.get(&path)) {
            return Some(file);
        }
        let module = enclosing(&path).find(|module| self.modules.contains_key(*module))?;
        let rest = &path[module.len() + 2..];
        let (name, after) = rest.split_once("::").unwrap_or((rest, ""));
        let name = join(module, name);
        if let Some(file) = self.items.get(&name) {
            return Some(file);
        }
        if depth == DEPTH_MAX {
            return None;
        }
        if let Some(import) = self.imports.get(&name) {
            return self.file_of(module, &join(import, after), depth + 1);
        }
        let mut globs = self.globs.get(module).into_iter().flatten();
        globs.find_map(|glob| self.file_of(module, &join(glob, rest), depth + 1))
    }
}

/// The names that a `use` declaration brings (`None` for `*`), each with what it stands for.
/// `parent`: the path before `tree`.
pub(super) fn imported_names(tree: &UseTree, parent: &str) -> Vec<(Option<String>, String)> {
    let path = |name: &Ident| match parent {
        "" => name.to_string(),
        parent if name == "self" => parent.to_owned(),
        parent => format!("{parent}::{name}"),
    };
    match tree {
        UseTree::Path(it) => imported_names(&it.tree, &path(&it.ident)),
        UseTree::Group(it) => it
            .items
            .iter()
            .flat_map(|tree| imported_names(tree, parent))
            .collect(),
        UseTree::Glob(_) => vec![(None, parent.to_owned())],
        UseTree::Name(it) => {
            let path = path(&it.ident);
            vec![(path.rsplit("::").next().map(str::to_owned), path)]
        }
        UseTree::Rename(it) => vec![(Some(it.rename.to_string()), path(&it.ident))],
    }
}

/// The path and those of the modules around it, the innermost first.
fn enclosing(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once("::")?.0))
}

fn join(module: &str, path: &str) -> String {
    match path {
        "" => module.to_owned(),
        path => format!("{module}::{path}"),
    }
}

/// Whether an item is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.meta.to_token_stream().to_string();
        attribute.path().is_ident("cfg") && text.contains("test") && !text.contains("not")
    })
}

/// Re-exports that lead to each other; more of them are taken for a circle.
const DEPTH_MAX: usize = 16;
