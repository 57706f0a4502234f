//! Globs: `*` stands for any text, `?` for one character.

/// Whether a glob matches a word. Where it does not, only the last `*` takes one character more:
/// what an earlier one took, it might as well have. So the steps are at most the one's length
/// times the other's.
#[inline]
pub fn glob_matches(glob: &str, word: &str) -> bool {
    let (mut glob, mut word) = (glob.chars(), word.chars());
    let mut again = None;
    loop {
        let found = word.clone().next();
        match (glob.next(), found) {
            (Some('*'), _) if glob.as_str().is_empty() => return true,
            (Some('*'), _) => again = Some((glob.clone(), word.clone())),
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                word.next();
            }
            _ => {
                let Some((after, from)) = &mut again else { return false };
                if from.next().is_none() {
                    return false;
                }
                (glob, word) = (after.clone(), from.clone());
            }
        }
    }
}
