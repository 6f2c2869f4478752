//! What all figures share.

/// Text as it may stand in an element or an attribute.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A figure of this height, with its title above `body`.
pub(crate) fn document(title: &str, height: f64, body: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<style>text {{ fill: #1f2328 }} .title {{ font-size: 16px; font-weight: bold }} .panel {{ font-weight: bold }} .label {{ text-anchor: end }} .middle {{ text-anchor: middle }} .ours {{ fill: #c2410c }} .peer {{ fill: #94a3b8 }} .grid {{ stroke: #e2e8f0 }} .axis {{ stroke: #64748b }}</style>
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="16" y="26" class="title">{}</text>
{body}</svg>
"##,
        escape(title)
    )
}

const WIDTH: u32 = 720;

#[cfg(test)]
pub(crate) use tests::assert_well_formed;

#[cfg(test)]
mod tests {
    /// Every element that opens is closed, in order, and attributes are quoted.
    pub(crate) fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag ends");
            assert!(!text.contains('>'), "{text}");
            assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name.to_owned()));
            } else if !tag.ends_with('/') {
                open.push(name.to_owned());
            }
        }
        assert_eq!(open, [""; 0]);
    }
}
