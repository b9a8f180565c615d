//! Layer groups: the parts of a model that are frozen, thawed and stepped together.

mod mode;
mod plan;
mod propose;
mod table;
mod walk;

pub use mode::{Mode, NormMode, Treatment};
pub use plan::Plan;
pub use table::{Table, TableRow};
pub use walk::covers;
pub(crate) use walk::{Item, Place, Stack, places};

use crate::TransferError;
use burn::module::{Module, ParamGroup};
use serde::{Deserialize, Serialize};

/// A named part of a model: everything that its prefixes cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    name: String,
    prefixes: Vec<String>,
}

impl Group {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Paths of parameters, or of modules with all that they hold.
    #[must_use]
    pub fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// Whether the parameter or switch at `path` is in this group.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        self.prefixes.iter().any(|prefix| covers(prefix, path))
    }
}

/// The layer groups of a model, from its input to its head.
///
/// Paths are matched by whole segments: `layers.1` is not `layers.10`. Each parameter and each switch (dropout, the
/// statistics of batch norm) is in exactly one group; what stands otherwise is refused with the names that there are.
///
/// ```
/// use burn::nn::LinearConfig;
/// use firebrick_transfer::Groups;
///
/// let device = burn::tensor::Device::flex().autodiff();
/// let model: Vec<_> = (0..12).map(|_| LinearConfig::new(4, 4).init(&device)).collect();
/// let groups = Groups::propose(&model)?;
/// assert_eq!(groups.len(), 12);
/// let groups = groups.merge(&["0", "1"], "low")?.rename("11", "head")?;
/// assert_eq!(groups.group_of("1.weight"), Some("low"));
/// assert_eq!(groups.group_of("10.weight"), Some("10"));
/// println!("{}", groups.table(&model)?);
/// assert!(groups.merge(&["low", "19"], "x").unwrap_err().to_string().contains("there are `low`, `2`"));
/// # Ok::<(), firebrick_transfer::TransferError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Group>", into = "Vec<Group>")]
pub struct Groups {
    groups: Vec<Group>,
}

impl TryFrom<Vec<Group>> for Groups {
    type Error = TransferError;

    fn try_from(groups: Vec<Group>) -> Result<Self, TransferError> {
        Self { groups }.checked()
    }
}

impl From<Groups> for Vec<Group> {
    fn from(groups: Groups) -> Self {
        groups.groups
    }
}

impl Groups {
    /// Groups by name, each with the prefixes of what it holds, from the input to the head.
    ///
    /// # Errors
    /// Without a group, when a group has no prefix, two groups have one name or one prefix covers another.
    ///
    /// ```
    /// use firebrick_transfer::Groups;
    ///
    /// let groups = Groups::new([("body", vec!["conv1", "conv2"]), ("head", vec!["fc"])])?;
    /// assert_eq!(groups.head(), "head");
    /// assert!(Groups::new([("a", vec!["layers"]), ("b", vec!["layers.1"])]).is_err());
    /// # Ok::<(), firebrick_transfer::TransferError>(())
    /// ```
    pub fn new<N: Into<String>, P: Into<String>>(
        groups: impl IntoIterator<Item = (N, Vec<P>)>,
    ) -> Result<Self, TransferError> {
        let group = |(name, prefixes): (N, Vec<P>)| Group {
            name: name.into(),
            prefixes: prefixes.into_iter().map(Into::into).collect(),
        };
        Self { groups: groups.into_iter().map(group).collect() }.checked()
    }

    /// Groups that the structure of `model` suggests.
    ///
    /// A field of the model is a group; a list of layers gives one for each of its elements, and so do the fields of
    /// a part that holds such a list, or more than half of the layers with weights. What has no weight of its own
    /// (norms, dropout, activations) joins the group before it. The last group is taken for the head. Print the
    /// [`table`](Self::table), and edit what does not suit.
    ///
    /// # Errors
    /// When the model has no parameter.
    pub fn propose<M: Module>(model: &M) -> Result<Self, TransferError> {
        propose::propose(model)
    }

    fn checked(self) -> Result<Self, TransferError> {
        if self.groups.is_empty() {
            return Err(TransferError::NoGroups { reason: "none was given".into() });
        }
        for (index, group) in self.groups.iter().enumerate() {
            if group.prefixes.is_empty() {
                let (group, prefix, known) =
                    (group.name.clone(), String::new(), "all its parts in other groups".into());
                return Err(TransferError::EmptyGroup { group, prefix, known });
            }
            for other in &self.groups[..index] {
                if other.name == group.name {
                    return Err(TransferError::SameName { name: group.name.clone() });
                }
                let clash = group.prefixes.iter().find_map(|prefix| {
                    let inside = |other: &&String| covers(other, prefix) || covers(prefix, other);
                    other.prefixes.iter().find(inside)
                });
                if let Some(path) = clash {
                    return Err(TransferError::Overlap {
                        path: path.clone(),
                        first: other.name.clone(),
                        second: group.name.clone(),
                    });
                }
            }
        }
        Ok(self)
    }

    /// Checks that every parameter and switch of `model` is in exactly one group, and that no prefix is in vain.
    ///
    /// # Errors
    /// With the first path that is in no group or the first prefix that covers nothing, and the names there are.
    pub fn check<M: Module>(&self, model: &M) -> Result<(), TransferError> {
        self.check_places(&places(model))
    }

    pub(crate) fn check_places(&self, places: &[Place]) -> Result<(), TransferError> {
        if places.is_empty() {
            return Err(TransferError::NoGroups { reason: "the model has no parameter".into() });
        }
        for group in &self.groups {
            for prefix in &group.prefixes {
                if !places.iter().any(|place| covers(prefix, &place.path)) {
                    return Err(TransferError::EmptyGroup {
                        group: group.name.clone(),
                        prefix: prefix.clone(),
                        known: listed(places.iter().map(|place| place.path.as_str())),
                    });
                }
            }
        }
        match places.iter().find(|place| self.group_of(&place.path).is_none()) {
            Some(place) => {
                Err(TransferError::Uncovered { path: place.path.clone(), known: self.known() })
            }
            None => Ok(()),
        }
    }

    /// Number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none; never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The groups, from the input to the head.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The names, from the input to the head.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.groups.iter().map(Group::name).collect()
    }

    /// The name of the last group.
    #[must_use]
    pub fn head(&self) -> &str {
        self.groups.last().map_or("", Group::name)
    }

    /// The name of the group that the parameter or switch at `path` is in.
    #[must_use]
    pub fn group_of(&self, path: &str) -> Option<&str> {
        self.position_of(path).map(|index| self.groups[index].name())
    }

    pub(crate) fn position_of(&self, path: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.covers(path))
    }

    /// The number of the group called `name`, counted from the input.
    ///
    /// # Errors
    /// When there is none; the message lists the names there are.
    pub fn position(&self, name: &str) -> Result<usize, TransferError> {
        let unknown = || TransferError::UnknownGroup { name: name.into(), known: self.known() };
        self.groups.iter().position(|group| group.name == name).ok_or_else(unknown)
    }

    pub(crate) fn known(&self) -> String {
        listed(self.names())
    }

    /// The same groups with one of another name.
    ///
    /// # Errors
    /// When there is no such group or the new name is taken.
    pub fn rename(&self, name: &str, new: impl Into<String>) -> Result<Self, TransferError> {
        let at = self.position(name)?;
        let mut groups = self.groups.clone();
        groups[at].name = new.into();
        Self { groups }.checked()
    }

    /// The same groups with those called `names` made one, which stands where the first of them stood.
    ///
    /// # Errors
    /// When a name is not known or the new one is taken.
    pub fn merge(&self, names: &[&str], into: impl Into<String>) -> Result<Self, TransferError> {
        let mut at = names.iter().map(|name| self.position(name)).collect::<Result<Vec<_>, _>>()?;
        at.sort_unstable();
        at.dedup();
        let Some(&first) = at.first() else {
            return Err(TransferError::NoGroups { reason: "no name was given to merge".into() });
        };
        let prefixes = at.iter().flat_map(|&index| self.groups[index].prefixes.clone()).collect();
        let mut groups = self.groups.clone();
        groups[first] = Group { name: into.into(), prefixes };
        for &index in at[1..].iter().rev() {
            groups.remove(index);
        }
        Self { groups }.checked()
    }

    /// The same groups with `prefix` taken out of whatever group lists it and made the group `name`, which stands
    /// behind that one.
    ///
    /// Only a prefix that a group lists can be taken out; to divide a module into its parts, give all of them to
    /// [`new`](Self::new).
    ///
    /// # Errors
    /// When no group lists the prefix, it is the only one of its group, or the name is taken.
    pub fn split(&self, prefix: &str, name: impl Into<String>) -> Result<Self, TransferError> {
        let lists = |group: &Group| group.prefixes.iter().any(|listed| listed == prefix);
        let Some(at) = self.groups.iter().position(lists) else {
            let all = self.groups.iter().flat_map(|group| &group.prefixes).map(String::as_str);
            return Err(TransferError::NoSuchParameter { path: prefix.into(), known: listed(all) });
        };
        let mut groups = self.groups.clone();
        groups[at].prefixes.retain(|listed| listed != prefix);
        groups.insert(at + 1, Group { name: name.into(), prefixes: vec![prefix.into()] });
        Self { groups }.checked()
    }

    /// burn's group of exactly the parameters and switches of the group called `name`.
    ///
    /// # Errors
    /// When there is no such group, or it covers nothing of `model`.
    pub fn param_group<M: Module>(
        &self,
        name: &str,
        model: &M,
    ) -> Result<ParamGroup, TransferError> {
        let places = places(model);
        self.check_places(&places)?;
        let group = &self.groups[self.position(name)?];
        let inside = places.into_iter().filter(|place| group.covers(&place.path));
        // By path: identities change when weights are loaded.
        Ok(ParamGroup::from_paths(inside.map(|place| place.path).collect()))
    }

    /// What is in which group, to be printed.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn table<M: Module>(&self, model: &M) -> Result<Table, TransferError> {
        Plan::new(self.clone()).table(model)
    }
}

/// The first few of many names, in backticks.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown: Vec<String> = names.iter().take(24).map(|name| format!("`{name}`")).collect();
    let more = names.len() - shown.len();
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    if shown.is_empty() { "none".into() } else { shown.join(", ") + &tail }
}
