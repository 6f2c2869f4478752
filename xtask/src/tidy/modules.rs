//! Module tree of a crate, parsed from its source files, with the files that `use` declarations
//! name.

use std::collections::{BTreeSet, HashMap};

use quote::ToTokens as _;
use syn::{Attribute, Item, UseTree, Visibility};

/// The modules of a crate that are compiled without `cfg(test)`.
#[derive(Debug)]
pub(crate) struct ModuleTree<'a> {
    /// Paths of the source files, the root of the crate first.
    pub(crate) files: Vec<&'a str>,
    modules: Vec<Module>,
}

#[derive(Debug)]
struct Module {
    /// Index of the file that it is in.
    file: usize,
    parent: Option<usize>,
    names: HashMap<String, Name>,
    /// Modules of which all names are imported.
    globs: Vec<Vec<String>>,
    /// Paths of the private `use` declarations. Re-exports are no dependence of this module.
    uses: Vec<Vec<String>>,
    types: Vec<(String, usize)>,
}

/// Meaning of a name in a module.
#[derive(Debug, Default)]
struct Name {
    is_item: bool,
    module: Option<usize>,
    import: Option<Vec<String>>,
}

impl<'a> ModuleTree<'a> {
    /// Parses the files (path, text) that the module declarations lead to from `root`.
    ///
    /// # Errors
    ///
    /// The first file that is not there or is not Rust.
    pub(crate) fn read(root: &'a str, files: &'a [(String, String)]) -> Result<Self, String> {
        let mut tree = Self {
            files: Vec::new(),
            modules: Vec::new(),
        };
        tree.read_file(root, files, None)?;
        Ok(tree)
    }

    fn read_file(
        &mut self,
        path: &'a str,
        files: &'a [(String, String)],
        parent: Option<usize>,
    ) -> Result<usize, String> {
        let text = files.iter().find(|(name, _)| name == path);
        let (path, text) = text.ok_or_else(|| format!("{path} is missing"))?;
        let parsed = syn::parse_file(text).map_err(|error| format!("{path}: {error}"))?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = name.trim_end_matches(".rs");
        let folder = match stem {
            "lib" | "main" | "mod" => folder.to_owned(),
            stem => format!("{folder}/{stem}"),
        };
        self.files.push(path);
        let file = self.files.len() - 1;
        self.read_module(file, &folder, parsed.items, files, parent)
    }

    fn read_module(
        &mut self,
        file: usize,
        folder: &str,
        items: Vec<Item>,
        files: &'a [(String, String)],
        parent: Option<usize>,
    ) -> Result<usize, String> {
        let at = self.modules.len();
        self.modules.push(Module {
            file,
            parent,
            names: HashMap::new(),
            globs: Vec::new(),
            uses: Vec::new(),
            types: Vec::new(),
        });
        for item in items {
            match item {
                Item::Mod(module) if !is_test(&module.attrs) => {
                    let name = module.ident.to_string();
                    if module.content.is_none() && self.name(at, name.clone()).module.is_some() {
                        // A feature makes it public: it has a second declaration and the same file.
                        continue;
                    }
                    let folder = format!("{folder}/{name}");
                    let child = match module.content {
                        Some((_, items)) => {
                            self.read_module(file, &folder, items, files, Some(at))?
                        }
                        None => {
                            let paths = [format!("{folder}.rs"), format!("{folder}/mod.rs")];
                            let found = files.iter().find(|(path, _)| paths.contains(path));
                            let (path, _) = found
                                .ok_or_else(|| format!("{} is missing", paths.join(" or ")))?;
                            self.read_file(path, files, Some(at))?
                        }
                    };
                    self.name(at, name).module = Some(child);
                }
                Item::Use(declaration) if !is_test(&declaration.attrs) => {
                    let mut leaves = Vec::new();
                    leaves_of(&declaration.tree, &mut Vec::new(), &mut leaves);
                    let is_private = matches!(declaration.vis, Visibility::Inherited);
                    for (name, path) in leaves {
                        if is_private {
                            self.modules[at].uses.push(path.clone());
                        }
                        match name {
                            Some(name) => self.name(at, name).import = Some(path),
                            None => self.modules[at].globs.push(path),
                        }
                    }
                }
                Item::Struct(it) => self.add_type(at, &it.ident, &it.attrs),
                Item::Enum(it) => self.add_type(at, &it.ident, &it.attrs),
                Item::Union(it) => self.add_type(at, &it.ident, &it.attrs),
                Item::Trait(it) => self.add_type(at, &it.ident, &it.attrs),
                Item::Type(it) => self.add_type(at, &it.ident, &it.attrs),
                Item::Fn(it) => self.name(at, it.sig.ident.to_string()).is_item = true,
                Item::Const(it) => self.name(at, it.ident.to_string()).is_item = true,
                Item::Static(it) => self.name(at, it.ident.to_string()).is_item = true,
                _ => {}
            }
        }
        Ok(at)
    }

    fn name(&mut self, module: usize, name: String) -> &mut Name {
        self.modules[module].names.entry(name).or_default()
    }

    fn add_type(&mut self, module: usize, name: &syn::Ident, attributes: &[Attribute]) {
        if is_test(attributes) {
            return;
        }
        self.name(module, name.to_string()).is_item = true;
        let line = name.span().start().line;
        self.modules[module].types.push((name.to_string(), line));
    }

    /// Names of all types, each with its file and line, in the order of the files.
    pub(crate) fn types(&self) -> impl Iterator<Item = (&str, String)> {
        self.modules.iter().flat_map(|module| {
            let file = self.files[module.file];
            let types = module.types.iter();
            types.map(move |(name, line)| (name.as_str(), format!("{file}:{line}")))
        })
    }

    /// For each file, the other files whose items it imports. Imports from a module that encloses
    /// the file are left out: a child module extends what its parent defines.
    pub(crate) fn imports(&self) -> Vec<BTreeSet<usize>> {
        let mut imports = vec![BTreeSet::new(); self.files.len()];
        for (at, module) in self.modules.iter().enumerate() {
            let parent = |module: &usize| self.modules[*module].parent;
            let enclosing = std::iter::successors(Some(at), parent);
            let enclosing: Vec<_> = enclosing.map(|it| self.modules[it].file).collect();
            let named = module
                .uses
                .iter()
                .filter_map(|path| self.file_of(at, path, 0));
            imports[module.file].extend(named.filter(|file| !enclosing.contains(file)));
        }
        imports
    }

    /// The file that defines what a path names, seen from a module; `None` for other crates.
    fn file_of(&self, from: usize, path: &[String], depth: usize) -> Option<usize> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (mut module, mut rest) = match path.first()?.as_str() {
            "crate" => (0, &path[1..]),
            "self" => (from, &path[1..]),
            _ => (from, path),
        };
        while rest.first().is_some_and(|name| name == "super") {
            (module, rest) = (self.modules[module].parent?, &rest[1..]);
        }
        while let Some((name, after)) = rest.split_first() {
            let Module {
                file, names, globs, ..
            } = &self.modules[module];
            match names.get(name) {
                Some(Name {
                    module: Some(child),
                    is_item,
                    ..
                }) if !is_item || !after.is_empty() => {
                    (module, rest) = (*child, after);
                }
                Some(Name { is_item: true, .. }) => return Some(*file),
                Some(Name {
                    import: Some(import),
                    ..
                }) => {
                    return self.file_of(module, &[import, after].concat(), depth + 1);
                }
                _ => {
                    let mut found = globs
                        .iter()
                        .filter_map(|glob| self.file_of(module, &[glob, rest].concat(), depth + 1));
                    return found.next();
                }
            }
        }
        Some(self.modules[module].file)
    }
}

/// The imported names (`None` for `*`) with their paths.
fn leaves_of(
    tree: &UseTree,
    path: &mut Vec<String>,
    leaves: &mut Vec<(Option<String>, Vec<String>)>,
) {
    match tree {
        UseTree::Path(it) => {
            path.push(it.ident.to_string());
            leaves_of(&it.tree, path, leaves);
            path.pop();
        }
        UseTree::Group(it) => it
            .items
            .iter()
            .for_each(|tree| leaves_of(tree, path, leaves)),
        UseTree::Glob(_) => leaves.push((None, path.clone())),
        UseTree::Name(it) if it.ident == "self" => {
            leaves.push((path.last().cloned(), path.clone()));
        }
        UseTree::Name(it) => {
            let name = it.ident.to_string();
            leaves.push((Some(name.clone()), [&path[..], &[name]].concat()));
        }
        UseTree::Rename(it) => {
            let mut full = path.clone();
            if it.ident != "self" {
                full.push(it.ident.to_string());
            }
            leaves.push((Some(it.rename.to_string()), full));
        }
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
