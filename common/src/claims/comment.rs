//! Whose an element is, as its comment says: the owner, and perhaps notes after it.

use crate::cni::Owner;

/// Owner and note of a comment.
pub(crate) fn split(comment: &str) -> (&str, Option<&str>) {
    Owner::split(comment)
}

/// Whether the comment names this owner.
pub(crate) fn owns(owner: &Owner, comment: &str) -> bool {
    owner.is_in(comment)
}

/// Whether the comment names the same container and interface, of whatever network: networks may
/// be renamed, but no container has two interfaces of one name.
pub(crate) fn is_same_attachment(owner: &Owner, comment: &str) -> bool {
    let attachment = |text: &'_ str| text.split_once(' ').map(|(_, rest)| rest.to_owned());
    attachment(split(comment).0) == attachment(owner.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::Attachment;

    fn owner(network: &str, container: &str) -> Owner {
        let attachment =
            Attachment { container: container.parse().unwrap(), ifname: "eth0".parse().unwrap() };
        attachment.owner(&network.parse().unwrap())
    }

    #[test]
    fn a_comment_names_its_owner_with_a_note_or_without() {
        let own = owner("pods", "c1");
        assert_eq!(split("pods c1 eth0"), ("pods c1 eth0", None));
        assert_eq!(split("pods c1 eth0 veth"), ("pods c1 eth0", Some("veth")));
        assert_eq!(split("what else"), ("what else", None));
        assert!(owns(&own, "pods c1 eth0") && owns(&own, "pods c1 eth0 veth"));
        assert!(!owns(&own, "pods c1 eth01") && !owns(&own, "other c1 eth0"));
        assert!(is_same_attachment(&own, "other c1 eth0 veth"));
        assert!(!is_same_attachment(&own, "pods c2 eth0") && !is_same_attachment(&own, ""));
    }
}
