//! Assigns a number to every value of every enum that a payload holds.
//!
//! Numbers start at 1 and are never reused: a removed value retires its number, a new one gets the next. They
//! are independent of the order in the source. The matches have no catch-all, so that a new value does not
//! compile before it has a number.

use crate::domain::problem::Code;
use crate::machine::backup::Phase;
use crate::machine::group::Milestone;
use crate::machine::group::Step;
use crate::machine::group::effect::EffectKind;
use crate::machine::group::reconstruct::Standing;
use crate::machine::kit::Ask;
use crate::records::WireError;

/// A value with a number.
pub trait Ordinal: Copy + 'static {
    /// Name of the enum, for messages.
    const WHAT: &'static str;
    /// Every value, in the order of numbers.
    const KNOWN: &'static [Self];
    fn number(self) -> u16;
    /// The value of a number.
    ///
    /// # Errors
    /// No value has this number.
    fn of(number: u16) -> Result<Self, WireError> {
        let known = Self::KNOWN.iter().find(|value| value.number() == number);
        known.copied().ok_or(WireError::Number { what: Self::WHAT, number })
    }
}

macro_rules! ordinals {
    ($($type:ident ($what:literal) { $($value:ident = $number:literal),+ $(,)? })+) => {
        $(impl Ordinal for $type {
            const WHAT: &'static str = $what;
            const KNOWN: &'static [Self] = &[$($type::$value),+];
            fn number(self) -> u16 {
                match self { $($type::$value => $number),+ }
            }
        })+
    };
}

ordinals! {
    Standing ("standing of a reconstructed run") {
        Undo = 1,
        Bound = 2,
        Released = 3,
        Completed = 4,
        Failed = 5,
    }
    Step ("step") {
        Create = 1,
        Claim = 2,
        Relabel = 3,
        Retain = 4,
        ClearNames = 5,
        Detach = 6,
        DeleteGroup = 7,
        Rebuild = 8,
        MakeStub = 9,
        DropStub = 10,
        DeleteContent = 11,
        MarkContent = 12,
        RestoreNames = 13,
        UndoCreate = 14,
        UndoFree = 15,
        UndoDeleteGroup = 16,
        UndoDeleteContent = 17,
        UndoDeleteSnapshots = 18,
        UndoDeleteContents = 19,
        UndoImport = 20,
        UndoFreeImport = 21,
        DropReplaced = 22,
    }
    Milestone ("milestone") {
        Created = 1,
        Cut = 2,
        VsBound = 3,
        Relabelled = 4,
        Retained = 5,
        Cleaned = 6,
        Completed = 7,
        Unwinding = 8,
        Retried = 9,
        Failed = 10,
        Stuck = 11,
    }
    Ask ("request") {
        Resume = 1,
        Abandon = 2,
        Keep = 3,
    }
    EffectKind ("kind of effect") {
        CreateGroup = 1,
        ClaimGroup = 2,
        LabelMember = 3,
        SetGroupContentPolicy = 4,
        SetContentPolicy = 5,
        SetGroupName = 6,
        DetachMember = 7,
        DeleteGroup = 8,
        MarkGroupContent = 9,
        DeleteGroupContent = 10,
        CreateContent = 11,
        CreateSnapshot = 12,
        CreateStub = 13,
        DeleteSnapshot = 14,
        DeleteContent = 15,
        CreateImport = 16,
    }
    Code ("error code") {
        Unsupported = 1,
        InvalidBackup = 2,
        NamespaceMissing = 3,
        ClaimUnfit = 4,
        SeveralDrivers = 5,
        GroupClass = 6,
        SnapshotClass = 7,
        TooManyMembers = 8,
        GroupApiMissing = 9,
        ForeignObject = 10,
        MembersDiffer = 11,
        DriverCannot = 12,
        DriverFailed = 13,
        CutTimeout = 14,
        ReadyTimeout = 15,
        DeletedByOther = 16,
        Refused = 17,
        PlanOutdated = 18,
        Overtaken = 19,
        ContentLost = 20,
        PermissionsMissing = 21,
        Abandoned = 22,
        AbandonedRetained = 23,
        NotAskable = 24,
        NotAtomic = 25,
        JournalCorrupt = 30,
        JournalLocked = 31,
        JournalNewer = 32,
        JournalIo = 33,
        JournalMissing = 34,
        UnknownRun = 35,
        JournalLost = 36,
        BindingRefused = 37,
        ClusterWentBack = 38,
        VeleroNamespace = 39,
        Unreachable = 40,
        Usage = 50,
        Internal = 99,
    }
    Phase ("phase of a Backup") {
        FailedValidation = 1,
        InProgress = 2,
        Completed = 3,
        PartiallyFailed = 4,
        Failed = 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<T: Ordinal + PartialEq + std::fmt::Debug>() {
        assert!(T::KNOWN.windows(2).all(|pair| pair[0].number() < pair[1].number()), "{} twice", T::WHAT);
        for value in T::KNOWN {
            assert_eq!(T::of(value.number()), Ok(*value));
        }
        for number in [0, 100, u16::MAX] {
            assert_eq!(T::of(number), Err(WireError::Number { what: T::WHAT, number }));
        }
    }

    #[test]
    fn ordinals_are_unique_and_never_zero() {
        there_and_back::<Step>();
        there_and_back::<Milestone>();
        there_and_back::<Ask>();
        there_and_back::<EffectKind>();
        there_and_back::<Code>();
        there_and_back::<Phase>();
    }

    #[test]
    fn ordinal_of_error_code_is_its_number() {
        for code in Code::KNOWN {
            assert_eq!(code.number(), *code as u16, "{code}");
        }
    }
}
