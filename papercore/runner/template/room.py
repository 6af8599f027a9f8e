"""The room of SLUG: claims, parameters, data and method. Floor: papers."""
