//! The operators of an aggregation pipeline at any depth: `$lookup`, `$facet` and `$unionWith`
//! contain pipelines.

use crate::element::{Element, elements, kind};

/// How deep documents are read. The server accepts 180 levels (`maxBSONDepth`, 200 in all, in its
/// source).
const MAX_DEPTH: usize = 200;

/// Passes every operator of a pipeline (a field whose name begins with `$`) to `see`, outer ones
/// before inner ones. Returns `false` if there may be more, because part of the pipeline is not
/// here, is invalid or is too deep.
pub(crate) fn each_operator<'b>(pipeline: &Element<'b>, see: &mut dyn FnMut(&Element<'b>)) -> bool {
    let stages = elements(pipeline.value).all(|stage| stage.kind == kind::DOCUMENT);
    pipeline.kind == kind::ARRAY && each_operator_inside(pipeline, MAX_DEPTH, see) && stages
}

fn each_operator_inside<'b>(
    outer: &Element<'b>,
    depth: usize,
    see: &mut dyn FnMut(&Element<'b>),
) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let (mut fields, mut whole) = (elements(outer.value), true);
    for field in fields.by_ref() {
        if field.name.starts_with(b"$") {
            see(&field);
        }
        whole &= !field.is_container() || each_operator_inside(&field, depth, see);
    }
    whole && fields.is_complete()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document, doc};

    fn names(stages: Document) -> (Vec<String>, bool) {
        let bytes = doc! {"pipeline": [stages]}.to_vec().unwrap();
        let (mut names, pipeline) = (Vec::new(), elements(&bytes).next().unwrap());
        let whole = each_operator(&pipeline, &mut |operator| {
            names.push(String::from_utf8_lossy(operator.name).into_owned());
        });
        (names, whole)
    }

    #[test]
    fn operators_are_found_at_any_depth() {
        let stages = doc! {"$facet": {"a": [{"$lookup": {"pipeline": [{"$out": "x"}]}}]}};
        assert_eq!(names(stages), (vec!["$facet".into(), "$lookup".into(), "$out".into()], true));
        assert_eq!(names(doc! {"match": 1}), (vec![], true));
    }

    #[test]
    fn what_lies_too_deep_or_is_not_here_may_hold_anything() {
        let deep = |levels| (0..levels).fold(doc! {"$out": "x"}, |inner, _| doc! {"a": inner});
        assert_eq!(names(deep(190)), (vec!["$out".into()], true));
        assert_eq!(names(deep(250)), (vec![], false));
        let bytes = doc! {"pipeline": [{"a": 1}, {"$out": "x"}]}.to_vec().unwrap();
        let cut = elements(&bytes[..bytes.len() - 12]).next().unwrap();
        assert!(!each_operator(&cut, &mut |_| {}));
        let number = doc! {"pipeline": 1}.to_vec().unwrap();
        assert!(!each_operator(&elements(&number).next().unwrap(), &mut |_| {}));
    }
}
