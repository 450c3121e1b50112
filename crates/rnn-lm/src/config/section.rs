//! A section of settings: what each is, its type and its default stand in one place. Out of them come a struct with documented
//! fields, the comments of a file and the help of the flags.

/// Makes the struct, its defaults, and `SETTINGS`: the name of each setting with the sentence that says what it is.
macro_rules! section {
    (
        $(#[$about_all:meta])*
        $section:ident {
            $( #[doc = $about:literal] $setting:ident: $kind:ty = $default:expr, )+
        }
    ) => {
        $(#[$about_all])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $section {
            $( #[doc = $about] pub $setting: $kind, )+
        }

        impl $section {
            const SETTINGS: &[(&str, &str)] = &[ $( (stringify!($setting), $about) ),+ ];
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $( $setting: $default, )+ }
            }
        }
    };
}
