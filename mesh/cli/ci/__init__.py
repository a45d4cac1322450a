"""What `dte init` writes: a template for each CI provider, plain text, and what a workspace says about itself to fill it in."""
