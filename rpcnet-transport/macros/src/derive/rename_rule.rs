//! Rename rules: the cases of `#[serde(rename_all = "..")]`.

use syn::LitStr;

/// Case that serde turns the names of fields or variants into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenameRule {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

const RULES: [(&str, RenameRule); 8] = [
    ("lowercase", RenameRule::Lower),
    ("UPPERCASE", RenameRule::Upper),
    ("PascalCase", RenameRule::Pascal),
    ("camelCase", RenameRule::Camel),
    ("snake_case", RenameRule::Snake),
    ("SCREAMING_SNAKE_CASE", RenameRule::ScreamingSnake),
    ("kebab-case", RenameRule::Kebab),
    ("SCREAMING-KEBAB-CASE", RenameRule::ScreamingKebab),
];

impl RenameRule {
    /// The rule of this name.
    pub(crate) fn parse(name: &LitStr) -> syn::Result<Self> {
        let text = name.value();
        let found = RULES.iter().find(|(known, _)| *known == text);
        found.map(|(_, rule)| *rule).ok_or_else(|| {
            let known: Vec<_> = RULES.iter().map(|(known, _)| *known).collect();
            let message = format!(
                "unknown rename rule {text:?}: serde knows {}",
                known.join(", ")
            );
            syn::Error::new_spanned(name, message)
        })
    }

    /// Name of a field, which is written in snake case.
    pub(crate) fn field(self, name: &str) -> String {
        match self {
            Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_ascii_uppercase(),
            Self::Pascal => name.split('_').map(capitalised).collect(),
            Self::Camel => uncapitalised(&Self::Pascal.field(name)),
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => name.to_ascii_uppercase().replace('_', "-"),
        }
    }

    /// Name of a variant, which is written in Pascal case.
    pub(crate) fn variant(self, name: &str) -> String {
        match self {
            Self::Pascal => name.to_owned(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Camel => uncapitalised(name),
            Self::Snake => snake(name),
            Self::ScreamingSnake => snake(name).to_ascii_uppercase(),
            Self::Kebab => snake(name).replace('_', "-"),
            Self::ScreamingKebab => snake(name).to_ascii_uppercase().replace('_', "-"),
        }
    }
}

fn capitalised(word: &str) -> String {
    change_first(word, |first| first.to_ascii_uppercase())
}

fn uncapitalised(word: &str) -> String {
    change_first(word, |first| first.to_ascii_lowercase())
}

fn change_first(word: &str, change: impl FnOnce(char) -> char) -> String {
    let mut chars = word.chars();
    chars.next().map(change).into_iter().chain(chars).collect()
}

fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    /// The names of the fields and variants below, as they are in the source.
    const FIELDS: [&str; 6] = ["id", "two_words", "_begins", "ends_", "a2_b", "v2_x9"];
    const VARIANTS: [&str; 6] = ["Id", "TwoWords", "ABTest", "V2X9", "Http2Server", "É"];

    /// What serde itself makes of a rule: the keys of a struct, and the names of variants.
    fn names_of_serde(rule: &str) -> (Vec<String>, Vec<String>) {
        macro_rules! rules {
            ($($name:literal)*) => {
                match rule {
                    $($name => {
                        #[derive(Default, Serialize)]
                        #[serde(rename_all = $name)]
                        struct Fields {
                            id: u8,
                            two_words: u8,
                            _begins: u8,
                            ends_: u8,
                            a2_b: u8,
                            v2_x9: u8,
                        }

                        #[derive(Serialize)]
                        #[serde(rename_all = $name)]
                        enum Variants {
                            Id,
                            TwoWords,
                            ABTest,
                            V2X9,
                            Http2Server,
                            #[serde(skip)]
                            _Unused,
                        }

                        let variants = [
                            Variants::Id,
                            Variants::TwoWords,
                            Variants::ABTest,
                            Variants::V2X9,
                            Variants::Http2Server,
                        ];
                        (keys(&Fields::default()), variants.iter().map(text).collect())
                    })*
                    other => panic!("{other} is no rule"),
                }
            };
        }
        rules!(
            "lowercase" "UPPERCASE" "PascalCase" "camelCase" "snake_case" "SCREAMING_SNAKE_CASE"
            "kebab-case" "SCREAMING-KEBAB-CASE"
        )
    }

    /// Keys of a struct in the order of its fields.
    fn keys(value: &impl Serialize) -> Vec<String> {
        let json = serde_json::to_string(value).unwrap();
        let pairs = json.trim_matches(['{', '}']).split(',');
        let keys = pairs.map(|pair| pair.split(':').next().unwrap().trim_matches('"'));
        keys.map(str::to_owned).collect()
    }

    fn text(value: &impl Serialize) -> String {
        let json = serde_json::to_string(value).unwrap();
        json.trim_matches('"').to_owned()
    }

    #[test]
    fn every_rule_names_fields_and_variants_as_serde_does() {
        for (name, rule) in RULES {
            let (fields, variants) = names_of_serde(name);
            assert_eq!(FIELDS.map(|it| rule.field(it)).to_vec(), fields, "{name}");
            let ours = VARIANTS[..5].iter().map(|it| rule.variant(it));
            assert_eq!(ours.collect::<Vec<_>>(), variants, "{name}");
        }
    }

    #[test]
    fn letters_beyond_ascii_keep_their_case() {
        assert_eq!(RenameRule::Snake.variant("AÉ"), "a_É");
        assert_eq!(RenameRule::Upper.field("café"), "CAFé");
        assert_eq!(RenameRule::Lower.variant(VARIANTS[5]), "É");
    }

    #[test]
    fn an_unknown_rule_is_an_error_that_names_the_known_ones() {
        let error = RenameRule::parse(&syn::parse_quote!("Snake")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("unknown rename rule \"Snake\""),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("snake_case, SCREAMING_SNAKE_CASE"),
            "{error}"
        );
    }
}
