//! Keeps the gradients of a burn model from vanishing and exploding.
