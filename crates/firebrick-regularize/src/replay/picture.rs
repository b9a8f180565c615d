//! Changes of the recorded image.

use super::RegularizeReplay;
use super::case::Case;
use crate::RegularizeError;
use crate::augment::{Edit, carry_out, kernel};

impl Case<'_> {
    /// Compares the image after one change.
    pub(super) fn picture(&self, name: &str) -> Result<RegularizeReplay, RegularizeError> {
        let edit = match name {
            "affine" => {
                let (shift, shear) = (
                    [self.arg("right")?, self.arg("down")?],
                    [self.arg("shear_x")?, self.arg("shear_y")?],
                );
                let (degrees, scale) = (self.arg("degrees")?, self.arg("scale")?);
                Edit::Affine(kernel::inverse_affine(degrees, shift, scale, shear))
            }
            "brightness" => Edit::Brightness(self.arg("factor")?),
            "contrast" => Edit::Contrast(self.arg("factor")?),
            "saturation" => Edit::Saturation(self.arg("factor")?),
            "sharpness" => Edit::Sharpness(self.arg("factor")?),
            "solarize" => Edit::Solarize(self.arg("threshold")?),
            "auto_contrast" => Edit::AutoContrast,
            "equalize" => Edit::Equalize,
            "posterize" => Edit::Posterize(self.arg("bits")? as u32),
            "flip_horizontal" => Edit::FlipHorizontal,
            "flip_vertical" => Edit::FlipVertical,
            _ => return Err(RegularizeError::UnknownCase { name: name.to_owned() }),
        };
        let image = self.plain::<3>("image")?.unsqueeze_dim::<4>(0);
        if image.dims().contains(&0) {
            return Err(RegularizeError::Empty { what: "the image" });
        }
        self.numbers(&carry_out(image, vec![edit]).try_to_vec_as::<f64>()?)
    }
}
