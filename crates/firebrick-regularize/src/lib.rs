//! Keeps a burn model from over-fitting: penalties, dropout, augmentation.
